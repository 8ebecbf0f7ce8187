//! Tokens, and where the compiler underlines them.

use proc_macro2::{Delimiter, Group, Ident, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Expr, Type, spanned::Spanned as _};

use crate::args::ungrouped;

/// One token of a type: its own name.
pub(super) fn last_word(ty: &Type) -> Span {
    match ty {
        Type::Path(path) => path.path.segments.last().map_or_else(|| path.span(), |last| last.ident.span()),
        Type::Reference(reference) => last_word(&reference.elem),
        other => other.span(),
    }
}

/// Silences clippy where generated code names an argument with a leading underscore: it is hashed, though the body does not
/// use it.
pub(super) fn allow_underscore() -> TokenStream {
    quote_mixed!(#[allow(clippy::used_underscore_binding)])
}

/// `&(EXPR)`, and `&(&a, &b)` for a tuple: a key is written from references, and moves nothing out of the arguments.
pub(super) fn by_reference(expr: &Expr) -> TokenStream {
    let and = quote_spanned!(Span::mixed_site().located_at(expr.span())=> &);
    match ungrouped(expr) {
        Expr::Tuple(tuple) => {
            let parts = tuple.elems.iter().map(by_reference);
            let mut parts = Group::new(Delimiter::Parenthesis, quote_mixed!(#(#parts,)*));
            parts.set_span(tuple.paren_token.span.join());
            quote!(#and #parts)
        }
        Expr::Paren(inner) => by_reference(&inner.expr),
        Expr::Reference(reference) if reference.mutability.is_none() => expr.to_token_stream(),
        Expr::Path(_) | Expr::Field(_) | Expr::Call(_) | Expr::MethodCall(_) | Expr::Macro(_) | Expr::Index(_) => {
            quote!(#and #expr)
        }
        _ => {
            let last = expr.to_token_stream().into_iter().last().map_or_else(Span::mixed_site, |last| last.span());
            let mut operand = Group::new(Delimiter::Parenthesis, expr.to_token_stream());
            operand.set_span(Span::mixed_site().located_at(last));
            quote!(#and #operand)
        }
    }
}

/// Tokens that the compiler underlines at `span`, and that resolve where they did before.
pub(super) fn located(tokens: TokenStream, span: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut token| {
            let at = token.span().located_at(span);
            if let TokenTree::Group(group) = &token {
                token = TokenTree::Group(Group::new(group.delimiter(), located(group.stream(), span)));
            }
            token.set_span(at);
            token
        })
        .collect()
}

/// Tokens in which the value `self` has another name. The `self` of a path (`self::f`) stays.
pub(super) fn rename_self(tokens: TokenStream, receiver: &Ident) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut renamed = TokenStream::new();
    while let Some(token) = tokens.next() {
        renamed.extend([match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), rename_self(group.stream(), receiver));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            TokenTree::Ident(ident) if ident == "self" && !continues_path(tokens.peek()) => {
                let mut receiver = receiver.clone();
                receiver.set_span(receiver.span().located_at(ident.span()));
                TokenTree::Ident(receiver)
            }
            token => token,
        }]);
    }
    renamed
}

/// True if the token is the first `:` of a `::`.
fn continues_path(next: Option<&TokenTree>) -> bool {
    matches!(next, Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
}

/// Splits `{ #![a] BODY }` into `#![a]`, which belongs to the function, and `{ BODY }`.
pub(super) fn split_inner_attributes(body: &Group) -> (TokenStream, Group) {
    let tokens: Vec<TokenTree> = body.stream().into_iter().collect();
    let mut rest = tokens.as_slice();
    while let [TokenTree::Punct(hash), TokenTree::Punct(bang), TokenTree::Group(group), after @ ..] = rest
        && hash.as_char() == '#'
        && bang.as_char() == '!'
        && group.delimiter() == Delimiter::Bracket
    {
        rest = after;
    }
    let attributes = tokens.iter().take(tokens.len() - rest.len()).cloned().collect();
    (attributes, braced(rest.iter().cloned().collect(), body.span()))
}

/// The body as a block inside another block. Braces around a single expression get the macro's span: with the user's span,
/// `unused_braces` would fire.
pub(super) fn inner_block(body: &Group) -> Group {
    let semicolon = |token: TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
    let is_expression = !body.stream().into_iter().any(semicolon);
    let span = if is_expression { Span::mixed_site().located_at(body.span()) } else { body.span() };
    braced(body.stream(), span)
}

/// `{ TOKENS }`, with braces at `span`.
pub(super) fn braced(tokens: TokenStream, span: Span) -> Group {
    let mut group = Group::new(Delimiter::Brace, tokens);
    group.set_span(span);
    group
}

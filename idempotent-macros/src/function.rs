//! The annotated function. Its signature is parsed to be read; its tokens are emitted as written.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, Block, Expr, ExprAsync, FnArg, Ident, Local, Pat, PatType, Path, ReturnType, Signature, Stmt, Type,
    Visibility, ext::IdentExt as _, parse::ParseStream, parse::Parser as _,
};

use crate::{diagnostics::error_at, types};

pub(crate) struct Function {
    /// Everything before the body, verbatim.
    pub(crate) head: TokenStream,
    /// Another `#[idempotent]` below this one.
    pub(crate) again: Option<Path>,
    pub(crate) signature: Signature,
    /// The braces and their content; `None` for a declaration in a trait.
    pub(crate) body: Option<Group>,
    pub(crate) arguments: Vec<Argument>,
    /// `Some` if the body is `Box::pin(async move { … })` and the return type is a boxed future: the shape that
    /// `#[async_trait]` leaves.
    pub(crate) boxed: Option<Boxed>,
}

/// One argument other than `self`.
pub(crate) struct Argument {
    pub(crate) ty: Type,
    /// The names that its pattern binds, usually one.
    pub(crate) names: Vec<Ident>,
    /// The first part of the pattern that binds no name, such as `_` or `..`.
    pub(crate) unnamed: Option<TokenStream>,
    /// Its `#[cfg(…)]` attributes.
    pub(crate) cfg: Vec<Attribute>,
}

/// The parts of `{ BEFORE Box::pin(async move { INNER let RESULT: OUTPUT = BODY; RESULT }) }`.
pub(crate) struct Boxed {
    pub(crate) output: Type,
    /// The statements before the last expression.
    pub(crate) before: TokenStream,
    /// `Box::pin`, as written.
    pub(crate) pin: Expr,
    /// `async move`, as written.
    pub(crate) keywords: TokenStream,
    /// The span of the block's braces. Other macros resolve names of their own there.
    pub(crate) braces: Span,
    /// The statements of the block that bind the arguments again. They stay in front of the generated code, which uses the
    /// names that they bind.
    pub(crate) inner: TokenStream,
    /// The user's own body, in braces.
    pub(crate) body: Group,
    /// The name of `self` inside the body: `__self`.
    pub(crate) receiver: Option<Ident>,
}

impl Function {
    pub(crate) fn parse(item: &TokenStream) -> syn::Result<Self> {
        let mut tokens: Vec<TokenTree> = ungrouped(item).into_iter().collect();
        let body = match tokens.pop() {
            Some(TokenTree::Punct(end)) if end.as_char() == ';' => None,
            Some(TokenTree::Group(group)) => braces(group),
            _ => None,
        };
        let head: TokenStream = tokens.into_iter().collect();
        let (attributes, signature) = head_of_function
            .parse2(head.clone())
            .map_err(|_| error_at(&head, "`#[idempotent]` goes on an async function", "move it to an `async fn`"))?;
        let mut arguments: Vec<Argument> = signature
            .inputs
            .iter()
            .filter_map(|input| match input {
                FnArg::Typed(argument) => Some(Argument::of(argument)),
                FnArg::Receiver(_) => None,
            })
            .collect();
        let again = attributes
            .iter()
            .map(Attribute::path)
            .find(|path| path.segments.last().is_some_and(|last| last.ident == "idempotent"));
        let again = again.cloned();
        let boxed = body.as_ref().and_then(|body| Boxed::of(&signature, body, &mut arguments));
        Ok(Self { head, again, signature, body, arguments, boxed })
    }

    /// The type that the body returns, unless the signature has none.
    pub(crate) fn output(&self) -> Option<&Type> {
        match (&self.boxed, &self.signature.output) {
            (Some(boxed), _) => Some(&boxed.output),
            (None, ReturnType::Type(_, ty)) => Some(ty),
            (None, ReturnType::Default) => None,
        }
    }

    /// The names that all arguments bind, with the `#[cfg(…)]` attributes of each.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&Ident, &[Attribute])> {
        self.arguments
            .iter()
            .flat_map(|argument| argument.names.iter().map(move |name| (name, argument.cfg.as_slice())))
    }

    /// The type of an argument.
    pub(crate) fn type_of(&self, argument: &Ident) -> Option<&Type> {
        let named = |it: &&Argument| it.names.iter().any(|name| name.unraw() == argument.unraw());
        self.arguments.iter().find(named).map(|it| &it.ty)
    }

    /// True if an argument is declared `mut`.
    pub(crate) fn is_mutable(&self, argument: &Ident) -> bool {
        declares_mut(self.signature.inputs.to_token_stream(), argument)
            || self.boxed.as_ref().is_some_and(|boxed| declares_mut(boxed.inner.clone(), argument))
    }

    pub(crate) fn is_async(&self) -> bool {
        self.signature.asyncness.is_some() || self.boxed.is_some()
    }

    /// The function's name, without `r#`.
    pub(crate) fn name(&self) -> String {
        self.signature.ident.unraw().to_string()
    }
}

/// The tokens inside the invisible group that `macro_rules!` puts around `$item:item`.
fn ungrouped(item: &TokenStream) -> TokenStream {
    let mut tokens = item.clone().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Group(group)), None) if group.delimiter() == Delimiter::None => ungrouped(&group.stream()),
        _ => item.clone(),
    }
}

/// The braces of a body, also inside the invisible group that `macro_rules!` puts around `$body:block`.
fn braces(group: Group) -> Option<Group> {
    match group.delimiter() {
        Delimiter::Brace => Some(group),
        Delimiter::None => match group.stream().into_iter().next()? {
            TokenTree::Group(inner) => braces(inner),
            _ => None,
        },
        _ => None,
    }
}

fn only_braces(block: impl ToTokens) -> Option<Group> {
    match block.into_token_stream().into_iter().next()? {
        TokenTree::Group(group) => braces(group),
        _ => None,
    }
}

fn head_of_function(input: ParseStream<'_>) -> syn::Result<(Vec<Attribute>, Signature)> {
    let attributes = input.call(Attribute::parse_outer)?;
    input.parse::<Visibility>()?;
    Ok((attributes, input.parse()?))
}

fn declares_mut(tokens: TokenStream, name: &Ident) -> bool {
    let mut after_mut = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => declares_mut(group.stream(), name),
        TokenTree::Ident(ident) => std::mem::replace(&mut after_mut, ident == "mut") && ident == *name,
        _ => false,
    })
}

/// True if the tokens contain a word, at any depth.
pub(crate) fn mentions(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => mentions(group.stream(), word),
        TokenTree::Ident(ident) => ident == word,
        _ => false,
    })
}

impl Argument {
    fn of(argument: &PatType) -> Self {
        let cfg = argument.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect();
        let mut new = Self { ty: (*argument.ty).clone(), names: Vec::new(), unnamed: None, cfg };
        new.bind(&argument.pat);
        new
    }

    /// Collects the names that the pattern binds, and the first part of it that binds none.
    fn bind(&mut self, pat: &Pat) {
        match pat {
            Pat::Ident(name) => {
                // The name of `name @ pattern` holds the whole value.
                self.names.push(name.ident.clone());
            }
            Pat::Paren(inner) => self.bind(&inner.pat),
            Pat::Reference(inner) => self.bind(&inner.pat),
            Pat::Type(inner) => self.bind(&inner.pat),
            Pat::Tuple(tuple) => tuple.elems.iter().for_each(|pat| self.bind(pat)),
            Pat::TupleStruct(tuple) => tuple.elems.iter().for_each(|pat| self.bind(pat)),
            Pat::Slice(slice) => slice.elems.iter().for_each(|pat| self.bind(pat)),
            Pat::Struct(structure) => {
                structure.fields.iter().for_each(|field| self.bind(&field.pat));
                if let Some(rest) = &structure.rest {
                    self.unnamed.get_or_insert_with(|| rest.to_token_stream());
                }
            }
            // `()` and unit structs hold nothing.
            Pat::Path(_) => {}
            other => {
                self.unnamed.get_or_insert_with(|| other.to_token_stream());
            }
        }
    }
}

impl Boxed {
    fn of(signature: &Signature, body: &Group, arguments: &mut [Argument]) -> Option<Self> {
        let ReturnType::Type(_, ty) = &signature.output else { return None };
        let output = types::boxed_future_output(ty).filter(|_| signature.asyncness.is_none())?;
        let statements = Block::parse_within.parse2(body.stream()).ok()?;
        let (last, before) = statements.split_last()?;
        // An early `return` returns a future that the generated code does not run.
        if before.iter().any(|statement| mentions(statement.to_token_stream(), "return")) {
            return None;
        }
        let Stmt::Expr(Expr::Call(call), None) = last else { return None };
        let Expr::Path(pin) = &*call.func else { return None };
        let mut names = pin.path.segments.iter().rev().map(|segment| &segment.ident);
        if !(names.next()? == "pin" && names.next()? == "Box") {
            return None;
        }
        let Some(Expr::Async(block)) = call.args.first() else { return None };
        let mut new = Self {
            output,
            before: before.iter().map(ToTokens::to_token_stream).collect(),
            pin: (*call.func).clone(),
            keywords: [block.async_token.to_token_stream(), block.capture.to_token_stream()].into_iter().collect(),
            braces: block.block.brace_token.span.join(),
            inner: TokenStream::new(),
            body: only_braces(&block.block)?,
            receiver: None,
        };
        new.split_async_trait(block, arguments);
        Some(new)
    }

    /// Takes apart the block that `#[async_trait]` writes, if this is one. It binds every argument again inside the block,
    /// patterns only there, and has the user's own body in a `let`. Only that body is to run under the claim.
    ///
    /// ```text
    /// { if let Some(__ret) = None::<OUTPUT> { return __ret; } let __self = self; let id = id; let __ret: OUTPUT = BODY; __ret }
    /// ```
    fn split_async_trait(&mut self, block: &ExprAsync, arguments: &mut [Argument]) -> Option<()> {
        let (last, statements) = block.block.stmts.split_last()?;
        let (result, bindings) = statements.split_last()?;
        let (Stmt::Local(result), Stmt::Expr(Expr::Path(last), None)) = (result, last) else { return None };
        let Pat::Type(typed) = &result.pat else { return None };
        let Pat::Ident(name) = &*typed.pat else { return None };
        let body = result.init.as_ref().filter(|_| last.path.is_ident(&name.ident))?;
        let body = only_braces(&body.expr)?;
        for binding in bindings {
            if let Stmt::Local(local) = binding {
                self.rebind(local, arguments);
            }
        }
        self.output = (*typed.ty).clone();
        self.body = body;
        self.inner = bindings.iter().map(ToTokens::to_token_stream).collect();
        Some(())
    }

    /// Reads one binding: `let __self = self;` names the receiver, `let (a, b) = { let __arg1 = __arg1; __arg1 };` an argument.
    fn rebind(&mut self, local: &Local, arguments: &mut [Argument]) {
        let source = match local.init.as_ref().map(|init| &*init.expr) {
            Some(Expr::Path(path)) => path.path.get_ident(),
            Some(Expr::Block(block)) => match block.block.stmts.last() {
                Some(Stmt::Expr(Expr::Path(path), None)) => path.path.get_ident(),
                _ => None,
            },
            _ => None,
        };
        let Some(source) = source else { return };
        if let (true, Pat::Ident(name)) = (source == "self", &local.pat) {
            self.receiver = Some(name.ident.clone());
        }
        let positional = source.to_string().starts_with("__arg");
        if let Some(argument) = arguments.iter_mut().find(|it| positional && it.names.contains(source)) {
            argument.names.clear();
            match &local.pat {
                Pat::Ident(name) if name.ident == *source => {
                    argument.unnamed = Some(syn::Token![_](name.ident.span()).to_token_stream());
                }
                pat => argument.bind(pat),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(function: &str) -> Vec<(Vec<String>, bool)> {
        let function = Function::parse(&function.parse().expect("tokens")).expect("a function");
        let text = |name: &Ident| name.to_string();
        function.arguments.iter().map(|it| (it.names.iter().map(text).collect(), it.unnamed.is_some())).collect()
    }

    fn bound(bound: &[&str]) -> (Vec<String>, bool) {
        (bound.iter().map(ToString::to_string).collect(), false)
    }

    #[test]
    fn every_name_that_a_pattern_binds_is_found() {
        assert_eq!(
            names(
                "async fn f(&self, a: A, mut b: B, (c, [d, e]): C, Json(f): D, S { g, h: i }: E, all @ (_, _): F) {}"
            ),
            [bound(&["a"]), bound(&["b"]), bound(&["c", "d", "e"]), bound(&["f"]), bound(&["g", "i"]), bound(&["all"]),]
        );
    }

    #[test]
    fn a_pattern_that_binds_no_name_is_noticed() {
        for pattern in ["_", "(_, _)", "S { .. }", "T(..)"] {
            assert_eq!(names(&format!("async fn f({pattern}: A) {{}}")), [(vec![], true)], "{pattern}");
        }
    }

    #[test]
    fn the_shape_of_async_trait_is_taken_apart() {
        let function = Function::parse(&quote::quote! {
            fn f<'life0, 'async_trait>(&'life0 self, id: u64, __arg2: (A, B), __arg3: C)
                -> ::core::pin::Pin<Box<dyn ::core::future::Future<Output = Result<A, E>> + Send + 'async_trait>>
            where Self: 'async_trait
            {
                Box::pin(async move {
                    if let Some(__ret) = None::<Result<A, E>> { return __ret; }
                    let __self = self;
                    let id = id;
                    let (a, b) = { let __arg2 = __arg2; __arg2 };
                    let __arg3 = __arg3;
                    let __ret: Result<A, E> = { __self.g(id, a, b) };
                    #[allow(unreachable_code)]
                    __ret
                })
            }
        })
        .expect("a function");
        let boxed = function.boxed.as_ref().expect("the shape");
        assert_eq!(boxed.receiver.as_ref().map(ToString::to_string).as_deref(), Some("__self"));
        assert_eq!(boxed.body.to_string(), quote::quote!({ __self.g(id, a, b) }).to_string());
        let bindings: Vec<_> = function.arguments.iter().map(|it| it.names.len()).collect();
        assert_eq!(bindings, [1, 2, 0]);
        assert_eq!(function.arguments.iter().filter(|it| it.unnamed.is_some()).count(), 1);
    }
}

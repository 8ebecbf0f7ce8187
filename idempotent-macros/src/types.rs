//! Reads types as tokens, without resolving them: references, lifetimes, `impl`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Ident, Lifetime, Type, TypeReference,
    parse::{Parse, ParseStream, Parser as _},
};

use crate::diagnostics::typed;

/// The references in a type, outermost first, except those in the arguments of function types, which are not data.
pub(crate) fn references(ty: impl ToTokens) -> Vec<TypeReference> {
    let mut found = Vec::new();
    walk(ty.to_token_stream(), &mut |rest| {
        if is_punct(rest, '&') {
            found.extend(leading(rest));
        }
    });
    found
}

/// The lifetimes in a type that are not `'static`, except those in the arguments of function types.
pub(crate) fn short_lifetimes(ty: impl ToTokens) -> Vec<Lifetime> {
    let mut found = Vec::new();
    walk(ty.to_token_stream(), &mut |rest| {
        if is_punct(rest, '\'') {
            found.extend(leading(rest).filter(|lifetime: &Lifetime| lifetime.ident != "static"));
        }
    });
    found
}

/// The first lifetime in a type that is not `'static`, except that of a `Cow`, which is read back as an owned value.
pub(crate) fn borrowed(ty: impl ToTokens) -> Option<Lifetime> {
    let mut found = None;
    let mut of_cow = false;
    walk(ty.to_token_stream(), &mut |rest| {
        if let [TokenTree::Ident(name), TokenTree::Punct(open), ..] = rest
            && open.as_char() == '<'
        {
            of_cow = name == "Cow";
        }
        if is_punct(rest, '\'')
            && let Some(lifetime) = leading::<Lifetime>(rest)
        {
            if lifetime.ident != "static" && !of_cow {
                found.get_or_insert(lifetime);
            }
            of_cow = false;
        }
    });
    found
}

/// The first occurrence of one of these words in a type.
pub(crate) fn word(ty: impl ToTokens, words: &[&str]) -> Option<Ident> {
    let mut found = None;
    walk(ty.to_token_stream(), &mut |rest| {
        if let Some(TokenTree::Ident(ident)) = rest.first()
            && words.iter().any(|word| ident == word)
        {
            found.get_or_insert_with(|| ident.clone());
        }
    });
    found
}

/// Calls `visit` at every position, with the tokens from there on, but not inside the arguments of function types.
fn walk(tokens: TokenStream, visit: &mut impl FnMut(&[TokenTree])) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut rest = tokens.as_slice();
    let (mut after_name, mut after_quote) = (false, false);
    while let Some((first, after)) = rest.split_first() {
        visit(rest);
        match first {
            // The arguments of `Fn(&A) -> B` or `fn(&A) -> B`: no other parenthesis in a type follows a name.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis && after_name => {}
            TokenTree::Group(group) => walk(group.stream(), visit),
            _ => {}
        }
        after_name = matches!(first, TokenTree::Ident(name) if !after_quote && *name != "mut" && *name != "dyn");
        after_quote = is_punct(rest, '\'');
        rest = after;
    }
}

fn is_punct(tokens: &[TokenTree], character: char) -> bool {
    matches!(tokens.first(), Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// Parses a `T` at the start of the tokens.
fn leading<T: Parse>(tokens: &[TokenTree]) -> Option<T> {
    let parser = |input: ParseStream<'_>| {
        let first = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(first)
    };
    parser.parse2(tokens.iter().cloned().collect()).ok()
}

/// The type inside parentheses, and inside the invisible groups that `macro_rules!` puts around `$t:ty`.
fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(inner) => ungrouped(&inner.elem),
        ty => ty,
    }
}

/// `T` of `&mut T`.
pub(crate) fn mutable_reference(ty: &Type) -> Option<&Type> {
    match ungrouped(ty) {
        Type::Reference(reference) if reference.mutability.is_some() => Some(&reference.elem),
        _ => None,
    }
}

/// `T` of `&T`, and of `T`.
pub(crate) fn without_reference(ty: &Type) -> &Type {
    match ungrouped(ty) {
        Type::Reference(reference) => &reference.elem,
        ty => ty,
    }
}

/// The owned form of a borrowed type: `String` for `&str`.
pub(crate) fn owned(reference: &TypeReference) -> String {
    match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Path(path) if path.path.is_ident("Path") => "PathBuf".to_owned(),
        Type::Slice(slice) => format!("Vec<{}>", typed(&slice.elem)),
        other => typed(other),
    }
}

/// `T` of `Pin<Box<dyn Future<Output = T> + …>>`.
pub(crate) fn boxed_future_output(ty: &Type) -> Option<Type> {
    ["Pin", "Box", "Future"].iter().try_for_each(|name| word(ty, &[name]).map(drop))?;
    let mut output = None;
    walk(ty.to_token_stream(), &mut |rest| {
        if let Some((TokenTree::Ident(name), after)) = rest.split_first()
            && name == "Output"
            && let Some((_, ty)) = after.split_first()
            && is_punct(after, '=')
            && output.is_none()
        {
            output = leading(ty);
        }
    });
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(text: &str) -> Type {
        syn::parse_str(text).expect(text)
    }

    #[test]
    fn references_are_found_where_they_are_data() {
        for (text, expected) in [
            ("&str", 1),
            ("Result<&'static str, E>", 1),
            ("(&str, Option<&mut [u8]>)", 2),
            ("Vec<(A, &B)>", 1),
            ("&'a (dyn Fn(&str) + Send)", 1),
            ("&'a (A, &mut B)", 2),
            ("fn(&str) -> u8", 0),
            ("Box<dyn Fn(&str) -> u8>", 0),
            ("Result<String, Box<dyn Error + 'static>>", 0),
        ] {
            assert_eq!(references(ty(text)).len(), expected, "{text}");
        }
    }

    #[test]
    fn short_lifetimes_are_found() {
        let found = |text: &str| short_lifetimes(ty(text)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("Cow<'a, str>"), ["'a"]);
        assert_eq!(found("Cow<'_, Foo<'b>>"), ["'_", "'b"]);
        assert_eq!(found("Cow<'static, str>"), Vec::<String>::new());
    }

    #[test]
    fn borrowed_results_are_found() {
        let found = |text: &str| borrowed(ty(text)).map(|lifetime| lifetime.to_string());
        assert_eq!(found("Result<Receipt<'a>, E>").as_deref(), Some("'a"));
        assert_eq!(found("Result<Cow<'a, Receipt<'b>>, E>").as_deref(), Some("'b"));
        assert_eq!(found("Result<(Cow<'a, str>, std::borrow::Cow<'_, [u8]>), E<'static>>"), None);
        assert_eq!(found("Result<u64, Box<dyn Error + 'static>>"), None);
    }

    #[test]
    fn owned_forms() {
        let owned = |text: &str| references(ty(text)).first().map(owned).expect("a reference");
        assert_eq!(owned("&str"), "String");
        assert_eq!(owned("&'a [Vec<u8>]"), "Vec<Vec<u8>>");
        assert_eq!(owned("&mut Order"), "Order");
    }

    #[test]
    fn the_output_of_a_boxed_future() {
        let output = |text: &str| boxed_future_output(&ty(text)).map(typed);
        assert_eq!(
            output("::core::pin::Pin<Box<dyn ::core::future::Future<Output = Result<A, E>> + Send + 'async_trait>>"),
            Some("Result<A, E>".to_owned())
        );
        assert_eq!(output("Result<A, E>"), None);
        assert_eq!(output("impl Future<Output = Result<A, E>>"), None);
    }
}

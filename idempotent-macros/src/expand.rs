//! Parses, validates and generates; or emits the function unchanged, with an error for each mistake.

use proc_macro2::TokenStream;
use quote::quote;

use crate::{args::Options, codegen, diagnostics::Errors, function::Function, validate};

/// Expands one attribute. `file` is the module that the source file most likely is; suggested names begin with it.
pub(crate) fn expand(args: TokenStream, item: &TokenStream, file: Option<&str>) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(args, &mut errors);
    let code = match Function::parse(item) {
        Ok(function) => {
            let plan = validate::validate(&options, &function, file, &mut errors);
            codegen::generate(&options, &function, &plan)
        }
        Err(error) => {
            errors.push(error);
            TokenStream::new()
        }
    };
    match errors.into_tokens() {
        None => code,
        Some(errors) => {
            // Re-emit the item unchanged, so that its callers still compile. Allow unused variables, which only the
            // attribute would have used.
            quote!(#[allow(unused_variables, unused_mut)] #item #errors)
        }
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::{Delimiter, Group, TokenTree};

    use super::*;

    const ARGS: [&str; 6] = [
        "key = order_id, ttl = \"24h\", skip(db, r#type,), detach",
        "key = (tenant, &event.id), lease = \"30s\", wait = Duration::ZERO",
        "key = \"order:{order_id}\", name = \"a.b\", store = self.idempotency",
        "errors = Error::is_final, abandoned = refuse, crate = ::other::path",
        "\"24h\", \"{\", skip = db, detach = true, name = a.b, errors = |e| true, crate = \"a\"",
        "key = |x| x, ttl = 1h, ttl = \"1h30m5\", lease = \"9999999999999999999d\", skip(self)",
    ];

    const ITEMS: [&str; 5] = [
        "async fn f(order_id: u8, tenant: &str, event: E, db: &Db, r#type: u8) -> Result<u8, E> { #![a] Ok(1) }",
        "#[a] pub(crate) const async unsafe extern \"C\" fn f<'a, T: X<u8> + 'a, const N: usize>(&'a mut self, \
         (a, [b, c]): X, S { d, .. }: Y, #[cfg(x)] _: Z, e @ 1..=2: u8) -> Result<&'a T, E> where T: Q { loop {} }",
        "#[idempotent] fn f(id: u64, __arg1: (A, B)) -> Pin<Box<dyn Future<Output = Result<A, E>> + Send + 'static>> \
         { Box::pin(async move { let __self = self; let (a, b) = { let __arg1 = __arg1; __arg1 }; \
         let __ret: Result<A, E> = { __self.g(id) }; __ret }) }",
        "fn f(self: Arc<Self>, f: fn(&u8) -> &'static mut u8, ...) -> impl Future<Output = X>;",
        "struct Order { id: u64 }",
    ];

    const DELIMITERS: [Delimiter; 4] = [Delimiter::Parenthesis, Delimiter::Brace, Delimiter::Bracket, Delimiter::None];

    /// Pseudo-random numbers; the same seed gives the same numbers.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).expect("31 bits") % n
        }
    }

    /// Drops, repeats, swaps, regroups and cuts off tokens, at every depth, and throws in tokens from `soup`.
    fn stirred(tokens: TokenStream, soup: &[TokenTree], dice: &mut Dice) -> TokenStream {
        let mut out: Vec<TokenTree> = Vec::new();
        for token in tokens {
            let regrouped = |delimiter| TokenTree::Group(Group::new(delimiter, token.clone().into()));
            match (dice.below(60), &token) {
                (0, _) => {}
                (1, _) => out.extend([token.clone(), token]),
                (2, _) => out.extend([token, soup[dice.below(soup.len())].clone()]),
                (3, _) => out.push(soup[dice.below(soup.len())].clone()),
                (4, _) => out.push(regrouped(DELIMITERS[dice.below(4)])),
                (5, _) => out.insert(dice.below(out.len() + 1), token),
                (6, _) => break,
                (7, TokenTree::Group(group)) => out.extend(group.stream()),
                (_, TokenTree::Group(group)) => {
                    out.push(Group::new(group.delimiter(), stirred(group.stream(), soup, dice)).into());
                }
                _ => out.push(token),
            }
        }
        out.into_iter().collect()
    }

    fn expanded(args: TokenStream, item: &TokenStream) -> (bool, bool, bool) {
        let given = item.to_string();
        let code = expand(args, item, Some("module")).to_string();
        let parsed = syn::parse_str::<syn::ImplItem>(&code).is_ok();
        (code.contains("compile_error !"), code.contains(&given), parsed)
    }

    #[test]
    fn whatever_is_written_the_macro_answers_and_the_item_stays() {
        let tokens = |text: &str| -> TokenStream { text.parse().expect("tokens") };
        let soup: Vec<TokenTree> =
            tokens("= == , : ; . .. & 'a \"{a}\" \"}\" \"24h\" 1 1.5 b\"x\" # ! ? -> Self key skip() impl async _ é")
                .into_iter()
                .collect();
        let (mut accepted, mut refused) = (0, 0);
        for seed in 0..2_000 {
            let mut dice = Dice(seed);
            let args = stirred(tokens(ARGS[dice.below(ARGS.len())]), &soup, &mut dice);
            let mut item = tokens(ITEMS[[0, 0, 0, 1, 2, 3, 4][dice.below(7)]]);
            if dice.below(3) == 0 {
                item = stirred(item, &soup, &mut dice);
            }
            match expanded(args.clone(), &item) {
                (true, kept, _) => {
                    assert!(kept, "seed {seed}: {args}\nlost: {item}");
                    refused += 1;
                }
                (false, _, parsed) => {
                    assert!(parsed, "seed {seed}: {args}\nbecame no function: {item}");
                    accepted += 1;
                }
            }
        }
        assert!(accepted > 50 && refused > 500, "{accepted} accepted, {refused} refused");
    }
}

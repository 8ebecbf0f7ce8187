//! Collects the mistakes of one attribute, so that one build reports all of them.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// Adds an error that underlines `tokens`; `help` is the text to type instead.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display, help: impl Display) {
        self.0.push(error_at(tokens, message, help));
    }

    /// Adds an error about something that is missing. It underlines the whole attribute.
    pub(crate) fn missing(&mut self, message: impl Display, help: impl Display) {
        self.0.push(syn::Error::new(proc_macro2::Span::call_site(), format!("{message}\nhelp: {help}")));
    }

    pub(crate) fn push(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    /// The errors as `compile_error!` items, or `None`.
    pub(crate) fn into_tokens(self) -> Option<TokenStream> {
        let errors: TokenStream = self.0.iter().map(syn::Error::to_compile_error).collect();
        (!errors.is_empty()).then_some(errors)
    }

    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// An error that underlines `tokens`; `help` is the text to type instead.
pub(crate) fn error_at(tokens: impl ToTokens, message: impl Display, help: impl Display) -> syn::Error {
    syn::Error::new_spanned(tokens, format!("{message}\nhelp: {help}"))
}

/// Tokens as a person would type them: `&'a str`, not `& 'a str`.
pub(crate) fn typed(tokens: impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (spaced, tight) in [
        (" ::", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        ("& ", "&"),
        (" ;", ";"),
        (" . ", "."),
    ] {
        text = text.replace(spaced, tight);
    }
    text
}

/// Joins words for a sentence: "`a`, `b` and `c`".
pub(crate) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The candidate nearest to `word`, if `word` is likely to be a misspelling of it.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tolerated = if word.len() < 4 { 1 } else { word.len() / 3 };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= tolerated && distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The number of edits between two words: insert, delete, replace, or swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let mut edits = (at(&above, j) + usize::from(from != to)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&to) && b.get(j - 1) == Some(&from);
            if swapped {
                edits = edits.min(at(&before, j - 1) + 1);
            }
            row.push(edits);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(distance("ttl", "ttl"), 0);
        assert_eq!(distance("tll", "ttl"), 1);
        assert_eq!(distance("", "key"), 3);
        assert_eq!(distance("key", ""), 3);
        assert_eq!(distance("lease", "elase"), 1, "a swap of neighbours is one edit");
        assert_eq!(distance("abandon", "abandoned"), 2);
    }

    #[test]
    fn only_likely_misspellings_are_suggested() {
        let options = ["key", "ttl", "name", "skip", "store", "lease", "wait", "errors", "abandoned"];
        for (word, expected) in [
            ("tll", Some("ttl")),
            ("kye", Some("key")),
            ("stroe", Some("store")),
            ("abandonned", Some("abandoned")),
            ("error", Some("errors")),
            ("transaction", None),
            ("x", None),
            ("timeout", None),
        ] {
            assert_eq!(nearest(word, options), expected, "{word}");
        }
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(listed(&["a"]), "`a`");
        assert_eq!(listed(&["a", "b"]), "`a` and `b`");
        assert_eq!(listed(&["a", "b", "c"]), "`a`, `b` and `c`");
    }

    #[test]
    fn types_are_shown_as_typed() {
        let ty: syn::Type = syn::parse_quote!(std::collections::BTreeMap<&'static str, [u8; 4]>);
        assert_eq!(typed(ty), "std::collections::BTreeMap<&'static str, [u8; 4]>");
    }
}

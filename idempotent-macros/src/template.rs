//! Parses key templates: `"order:{order_id}"`.

use std::mem::take;

/// A part of a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text that is the same in every key.
    Text(String),
    /// The argument with this name.
    Hole(String),
}

/// Splits a template into pieces. An error is a message, and the text to type instead.
pub(crate) fn parse(template: &str) -> Result<Vec<Piece>, (String, String)> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(brace);
        text.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some((hole, after)) = from.strip_prefix('{').and_then(|open| open.split_once('}')) {
            if !text.is_empty() {
                pieces.push(Piece::Text(take(&mut text)));
            }
            pieces.push(Piece::Hole(name(hole)?));
            rest = after;
        } else {
            let (brace, twice) = if from.starts_with('{') { ('{', "{{") } else { ('}', "}}") };
            return Err((
                format!("unmatched `{brace}` in the template"),
                format!("for a brace as text, type `{twice}`"),
            ));
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Parses a hole: the name of one argument.
fn name(hole: &str) -> Result<String, (String, String)> {
    let name = hole.trim();
    let mut characters = name.chars();
    let starts = characters.next().is_some_and(|c| c.is_alphabetic() || c == '_');
    if starts && characters.all(|c| c.is_alphanumeric() || c == '_') {
        return Ok(name.to_owned());
    }
    Err(if name.is_empty() || name.chars().all(|c| c.is_ascii_digit()) {
        (format!("`{{{hole}}}` in the template names no argument"), "name one, as in `{order_id}`".to_owned())
    } else if let Some((argument, _)) = name.split_once(':') {
        (
            format!("`{{{hole}}}` has a format specifier, which a template does not take"),
            format!("`{{{}}}`", argument.trim()),
        )
    } else {
        (
            format!("`{{{hole}}}` is an expression, and a template takes argument names only"),
            format!("write a tuple: `key = (\"order\", {name})`"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }
    fn hole(name: &str) -> Piece {
        Piece::Hole(name.to_owned())
    }

    #[test]
    fn text_and_holes_in_order() {
        assert_eq!(parse("order:{id}"), Ok(vec![text("order:"), hole("id")]));
        assert_eq!(parse("{a}{b}"), Ok(vec![hole("a"), hole("b")]));
        assert_eq!(parse("{ a }-x"), Ok(vec![hole("a"), text("-x")]));
        assert_eq!(parse("{{{a}}}"), Ok(vec![text("{"), hole("a"), text("}")]));
        assert_eq!(parse("{größe}"), Ok(vec![hole("größe")]));
        assert_eq!(parse("plain"), Ok(vec![text("plain")]));
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn mistakes_are_named() {
        for (template, reason) in [
            ("{a", "unmatched `{` in the template"),
            ("a}", "unmatched `}` in the template"),
            ("{}", "`{}` in the template names no argument"),
            ("{0}", "`{0}` in the template names no argument"),
            ("{a:?}", "`{a:?}` has a format specifier, which a template does not take"),
            ("{a.b}", "`{a.b}` is an expression, and a template takes argument names only"),
            ("{self.id}", "`{self.id}` is an expression, and a template takes argument names only"),
            ("{a{b}}", "`{a{b}` is an expression, and a template takes argument names only"),
        ] {
            assert_eq!(parse(template).expect_err(template).0, reason);
        }
    }
}

//! The rules of keys.

use syn::{Expr, ExprLit, ExprUnary, LitStr, UnOp, ext::IdentExt as _};

use super::{KeyPlan, TemplatePiece, meant};
use crate::{
    args::{Key, Options, ungrouped},
    diagnostics::Errors,
    function::Function,
    template::{self, Piece},
};

/// Checks the rules of `key = …`, and of a function without it.
pub(super) fn key<'a>(
    options: &'a Options,
    function: &'a Function,
    nothing_hashed: bool,
    errors: &mut Errors,
) -> KeyPlan<'a> {
    const SHARED: &str = "every call would share one record";
    match &options.key {
        None => {
            if nothing_hashed && !options.names("key") {
                let skipped = function.names().find(|(name, _)| !options.is_transaction(name));
                let help = match (skipped, function.signature.receiver()) {
                    (Some((skipped, _)), _) => format!("add `key = {skipped}`, or remove an argument from `skip`"),
                    (None, Some(_)) => "add `key = self.id`, or an argument that tells the calls apart".to_owned(),
                    (None, None) => "add an argument that tells the calls apart, as in `order_id: &str`".to_owned(),
                };
                errors.missing(format!("no argument is hashed and there is no `key`: {SHARED}"), help);
            }
            KeyPlan::Hash
        }
        Some(Key::Value(expr)) => {
            if is_constant(expr) {
                errors.at(expr, format!("this key is a constant: {SHARED}"), example_key(function, options));
            }
            KeyPlan::Value(expr)
        }
        Some(Key::Template(literal)) => {
            let pieces = template::parse(&literal.value()).unwrap_or_else(|(message, help)| {
                errors.at(literal, message, help);
                Vec::new()
            });
            if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) && !pieces.is_empty()
                || literal.value().is_empty()
            {
                errors.at(
                    literal,
                    format!("this template names no argument: {SHARED}"),
                    example_key(function, options),
                );
            }
            let pieces =
                pieces.into_iter().filter_map(|piece| fill(piece, literal, options, function, errors)).collect();
            KeyPlan::Template(literal, pieces)
        }
    }
}

/// A key to type, over an argument or `self`.
pub(super) fn example_key(function: &Function, options: &Options) -> String {
    match (function.names().find(|(name, _)| !options.skips(name)), function.signature.receiver()) {
        (Some((argument, _)), _) => format!("`key = {argument}`"),
        (None, Some(_)) => "`key = self.id`".to_owned(),
        (None, None) => "add an argument that tells the calls apart, and name it in the key".to_owned(),
    }
}

fn fill<'a>(
    piece: Piece,
    literal: &LitStr,
    options: &Options,
    function: &'a Function,
    errors: &mut Errors,
) -> Option<TemplatePiece<'a>> {
    let hole = match piece {
        Piece::Text(text) => return Some(TemplatePiece::Text(text)),
        Piece::Hole(hole) => hole,
    };
    let found = function.names().find(|(ident, _)| ident.unraw() == hole);
    if options.transaction.as_ref().is_some_and(|transaction| transaction.unraw() == hole) {
        errors.at(
            literal,
            "the transaction cannot be part of the key: it does not tell requests apart",
            example_key(function, options),
        );
    } else if found.is_none() {
        let help = match hole.as_str() {
            "self" => "write a tuple over its fields: `key = (\"order\", self.id)`".to_owned(),
            _ => meant(&hole, function),
        };
        errors.at(literal, format!("no argument is called `{hole}`"), help);
    }
    found.map(|(ident, _)| TemplatePiece::Hole(ident))
}

/// True if an expression consists of literals only.
fn is_constant(expr: &Expr) -> bool {
    match ungrouped(expr) {
        Expr::Lit(ExprLit { .. }) => true,
        Expr::Paren(inner) => is_constant(&inner.expr),
        Expr::Reference(inner) => is_constant(&inner.expr),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_) | UnOp::Not(_), expr, .. }) => is_constant(expr),
        Expr::Tuple(tuple) => tuple.elems.iter().all(is_constant),
        Expr::Array(array) => array.elems.iter().all(is_constant),
        _ => false,
    }
}

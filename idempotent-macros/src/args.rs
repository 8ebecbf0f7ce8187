//! The grammar of the attribute's options. The rules are in `validate`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{
    Expr, ExprLit, Ident, Lit, LitInt, LitStr, Path, Token, ext::IdentExt as _, parse::ParseStream, parse::Parser as _,
    punctuated::Punctuated,
};

use crate::{
    diagnostics::{Errors, error_at, listed, nearest, typed},
    duration,
};

/// The names of all options, in the order of the documentation.
const NAMES: [&str; 15] = [
    "key",
    "ttl",
    "name",
    "skip",
    "store",
    "lease",
    "wait",
    "errors",
    "abandoned",
    "settle_after",
    "max_attempts",
    "retry_after",
    "detach",
    "transaction",
    "crate",
];

/// The options as written.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) key: Option<Key>,
    pub(crate) ttl: Option<Time>,
    pub(crate) name: Option<LitStr>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) store: Option<Expr>,
    pub(crate) lease: Option<Time>,
    pub(crate) wait: Option<Time>,
    pub(crate) errors: OnError,
    pub(crate) abandoned: Option<OnAbandoned>,
    pub(crate) settle_after: Option<Time>,
    pub(crate) max_attempts: Option<Attempts>,
    pub(crate) retry_after: Option<Time>,
    pub(crate) detach: bool,
    pub(crate) transaction: Option<Ident>,
    pub(crate) krate: Option<Path>,
    /// The names of the options so far, also of those whose value was wrong. Each may come once.
    seen: Vec<Ident>,
}

pub(crate) enum Key {
    Template(LitStr),
    Value(Expr),
}

pub(crate) enum Time {
    Literal { literal: LitStr, milliseconds: u64 },
    Value(Expr),
}

#[derive(Default)]
pub(crate) enum OnError {
    #[default]
    Release,
    Keep,
    KeepIf(Path),
}

pub(crate) enum OnAbandoned {
    Rerun,
    Refuse,
    Reconcile(Path),
}

pub(crate) enum Attempts {
    Literal { literal: LitInt, attempts: u32 },
    Value(Expr),
}

impl Options {
    /// Parses the options, and reports every one that cannot be parsed.
    pub(crate) fn parse(args: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let parsed = (|input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(error) = options.option(input) {
                    errors.push(error);
                    skip_to_comma(input)?;
                } else if !input.is_empty() && !input.peek(Token![,]) {
                    let next: TokenTree = input.fork().parse()?;
                    let help = match &next {
                        TokenTree::Punct(_) => "`,`".to_owned(),
                        option => format!("`, {option}`"),
                    };
                    errors.at(&next, "expected a `,` between two options", help);
                    skip_to_comma(input)?;
                }
                input.parse::<Option<Token![,]>>()?;
            }
            Ok(())
        })
        .parse2(args);
        if let Err(error) = parsed {
            errors.push(error);
        }
        options
    }

    /// True if an option was given, even with a wrong value.
    pub(crate) fn names(&self, option: &str) -> bool {
        self.place(option).is_some()
    }

    /// The name of an option, as the user wrote it.
    pub(crate) fn place(&self, option: &str) -> Option<&Ident> {
        self.seen.iter().find(|seen| *seen == option)
    }

    pub(crate) fn is_transaction(&self, argument: &Ident) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.unraw() == argument.unraw())
    }

    /// True if an argument is left out of the hash.
    pub(crate) fn skips(&self, argument: &Ident) -> bool {
        self.skip.iter().chain(&self.transaction).any(|skipped| skipped.unraw() == argument.unraw())
    }

    fn option(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let Ok(name) = input.call(Ident::parse_any) else {
            let next: TokenTree = input.fork().parse()?;
            let text = next.to_string();
            let text = text.trim_matches('"');
            let help = match &next {
                TokenTree::Literal(_) if duration::parse(text).is_ok() => format!("`ttl = \"{text}\"`"),
                TokenTree::Literal(literal) if literal.to_string().starts_with('"') => format!("`key = {literal}`"),
                TokenTree::Punct(comma) if comma.as_char() == ',' => "remove one `,`".to_owned(),
                _ => "`key = order_id, ttl = \"24h\"`".to_owned(),
            };
            return Err(error_at(next, "expected an option", help));
        };
        let option = name.to_string();
        if !NAMES.contains(&option.as_str()) {
            return Err(unknown(&name));
        }
        if self.names(&option) {
            return Err(error_at(&name, format!("`{option}` is given twice"), "keep one of them"));
        }
        self.seen.push(name.clone());
        match option.as_str() {
            "key" => self.key = Some(key(value(input, &name, "order_id")?)),
            "ttl" => self.ttl = Some(time(input, &name, "24h")?),
            "lease" => self.lease = Some(time(input, &name, "30s")?),
            "wait" => self.wait = Some(time(input, &name, "10s")?),
            "name" => self.name = Some(operation_name(input, &name)?),
            "skip" => self.skip = skip(input, &name)?,
            "store" => self.store = Some(value(input, &name, "self.idempotency")?),
            "errors" => self.errors = on_error(&value(input, &name, "keep")?)?,
            "abandoned" => self.abandoned = Some(on_abandoned(input, &name)?),
            "settle_after" => self.settle_after = Some(time(input, &name, "1m")?),
            "max_attempts" => self.max_attempts = Some(attempts(input, &name)?),
            "retry_after" => self.retry_after = Some(time(input, &name, "30s")?),
            "detach" => self.detach = flag(input, &name)?,
            "transaction" => self.transaction = Some(transaction(input, &name)?),
            "crate" => self.krate = Some(krate(input, &name)?),
            // Not reached: the arms are those of `NAMES`.
            _ => return Err(unknown(&name)),
        }
        Ok(())
    }
}

fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

fn unknown(name: &Ident) -> syn::Error {
    let option = name.to_string();
    let help = match nearest(&option.to_lowercase(), NAMES) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the options are {}", listed(&NAMES)),
    };
    error_at(name, format!("unknown option `{option}`"), help)
}

/// Parses the `=` before a value.
fn equals(input: ParseStream<'_>, name: &Ident, example: &str) -> syn::Result<()> {
    if input.peek(Token![=]) && !input.peek(Token![==]) {
        input.parse::<Token![=]>()?;
        if !input.is_empty() && !input.peek(Token![,]) {
            return Ok(());
        }
    }
    Err(error_at(name, format!("`{name}` needs a value"), format!("`{name} = {example}`")))
}

fn value(input: ParseStream<'_>, name: &Ident, example: &str) -> syn::Result<Expr> {
    equals(input, name, example)?;
    input.parse().map_err(|error| unfinished(input, name, example).unwrap_or(error))
}

/// The error for a value that ends too early. syn would underline the whole attribute, since it finds no token to point at.
fn unfinished(input: ParseStream<'_>, name: &Ident, example: &str) -> Option<syn::Error> {
    let error = || error_at(name, format!("the value of `{name}` is incomplete"), format!("`{name} = {example}`"));
    input.is_empty().then(error)
}

/// The expression inside the invisible groups that `macro_rules!` puts around `$e:expr`.
pub(crate) fn ungrouped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => ungrouped(&group.expr),
        expr => expr,
    }
}

fn string(expr: &Expr) -> Option<&LitStr> {
    match ungrouped(expr) {
        Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => Some(literal),
        _ => None,
    }
}

fn key(expr: Expr) -> Key {
    match string(&expr) {
        Some(literal) => Key::Template(literal.clone()),
        None => Key::Value(expr),
    }
}

fn time(input: ParseStream<'_>, name: &Ident, example: &str) -> syn::Result<Time> {
    let expr = value(input, name, &format!("\"{example}\""))?;
    if let Some(literal) = string(&expr) {
        return match duration::parse(&literal.value()) {
            Ok(milliseconds) => Ok(Time::Literal { literal: literal.clone(), milliseconds }),
            Err(malformed) => Err(error_at(literal, malformed.reason, format!("`{name} = \"{}\"`", malformed.instead))),
        };
    }
    match ungrouped(&expr) {
        Expr::Lit(ExprLit { lit, .. }) => {
            let help = match lit {
                Lit::Int(number) if duration::parse(&number.to_string()).is_ok() => format!("`{name} = \"{number}\"`"),
                Lit::Int(number) => format!("`{name} = \"{}s\"`", number.base10_digits()),
                _ => format!("`{name} = \"{example}\"`"),
            };
            Err(error_at(
                lit,
                format!("`{name}` must be a string with a unit, or an expression of type `Duration`"),
                help,
            ))
        }
        _ => Ok(Time::Value(expr)),
    }
}

fn operation_name(input: ParseStream<'_>, name: &Ident) -> syn::Result<LitStr> {
    let expr = value(input, name, "\"payments.charge\"")?;
    string(&expr).cloned().ok_or_else(|| {
        let help = match typed(&expr) {
            path if path.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.') => format!("`name = \"{path}\"`"),
            _ => "`name = \"payments.charge\"`".to_owned(),
        };
        error_at(
            &expr,
            "`name` must be a string literal: it is stored in every record, and must not change by accident",
            help,
        )
    })
}

fn skip(input: ParseStream<'_>, name: &Ident) -> syn::Result<Vec<Ident>> {
    let arguments = match input.fork().parse() {
        Ok(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => group,
        _ => {
            let rest: TokenStream = input.fork().parse()?;
            // Up to the next option.
            let ours = rest
                .into_iter()
                .take_while(|token| !matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','));
            return Err(error_at(name, "`skip` takes its arguments in parentheses", skip_of(ours.collect())));
        }
    };
    input.parse::<TokenTree>()?;
    if arguments.stream().is_empty() {
        return Err(error_at(name, "`skip()` skips nothing", "name an argument, as in `skip(db)`, or remove `skip()`"));
    }
    let parser = |input: ParseStream<'_>| Punctuated::<_, Token![,]>::parse_terminated_with(input, Ident::parse_any);
    match parser.parse2(arguments.stream()) {
        Ok(names) => Ok(names.into_iter().collect()),
        Err(_) => Err(error_at(&arguments, "`skip` takes argument names only", skip_of(arguments.stream()))),
    }
}

/// The `skip` that the user probably meant.
fn skip_of(tokens: TokenStream) -> String {
    let name = tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(name) => Some(name.to_string()),
        TokenTree::Group(names) => names.stream().into_iter().next().map(|name| name.to_string()),
        _ => None,
    });
    format!("`skip({})`", name.as_deref().unwrap_or("db"))
}

fn on_error(expr: &Expr) -> syn::Result<OnError> {
    match ungrouped(expr) {
        Expr::Path(path) if path.path.is_ident("release") => Ok(OnError::Release),
        Expr::Path(path) if path.path.is_ident("keep") => Ok(OnError::Keep),
        Expr::Path(path) if path.qself.is_none() => Ok(OnError::KeepIf(path.path.clone())),
        other => {
            let help = match other {
                Expr::Closure(_) => "name a function: `errors = is_final`",
                _ => "`errors = keep`",
            };
            Err(error_at(
                expr,
                "`errors` must be `release`, `keep`, or the path of a function `fn(&E) -> bool` that returns `true` for \
                 errors to keep",
                help,
            ))
        }
    }
}

fn on_abandoned(input: ParseStream<'_>, name: &Ident) -> syn::Result<OnAbandoned> {
    equals(input, name, "refuse")?;
    let value: TokenTree = input.parse()?;
    match value.to_string().as_str() {
        "rerun" => Ok(OnAbandoned::Rerun),
        "refuse" => Ok(OnAbandoned::Refuse),
        "reconcile" => reconcile(input, &value).map(OnAbandoned::Reconcile),
        other => {
            let meant = match nearest(other, ["rerun", "refuse", "reconcile"]) {
                Some("reconcile") => "reconcile(find_charge)",
                Some(meant) => meant,
                None => "refuse",
            };
            Err(error_at(
                value,
                "`abandoned` must be `rerun`, `refuse` or `reconcile(PATH)`",
                format!("`abandoned = {meant}`"),
            ))
        }
    }
}

/// Parses `(PATH)` after `reconcile`.
fn reconcile(input: ParseStream<'_>, word: &TokenTree) -> syn::Result<Path> {
    let group = match input.fork().parse() {
        Ok(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => group,
        _ => {
            let what = "`reconcile` names the function that finds out what happened, in parentheses";
            return Err(error_at(word, what, "`abandoned = reconcile(find_charge)`"));
        }
    };
    input.parse::<TokenTree>()?;
    let named = syn::parse2::<Expr>(group.stream()).ok();
    let help = match named.as_ref().map(ungrouped) {
        Some(Expr::Path(path)) if path.qself.is_none() => return Ok(path.path.clone()),
        Some(Expr::Call(call)) => format!("`reconcile({})`", typed(&call.func)),
        _ => "`reconcile(find_charge)`".to_owned(),
    };
    Err(error_at(&group, "`reconcile` takes the path of an async function", help))
}

fn attempts(input: ParseStream<'_>, name: &Ident) -> syn::Result<Attempts> {
    let expr = value(input, name, "5")?;
    match ungrouped(&expr) {
        Expr::Lit(ExprLit { lit: Lit::Int(literal), .. }) => match literal.base10_parse() {
            Ok(attempts) if matches!(literal.suffix(), "" | "u32") => {
                Ok(Attempts::Literal { literal: literal.clone(), attempts })
            }
            _ => Err(error_at(literal, "`max_attempts` must be a `u32`", "`max_attempts = 5`")),
        },
        Expr::Lit(ExprLit { lit, .. }) => {
            let number = match lit {
                Lit::Str(text) => text.value().parse::<u32>().ok(),
                _ => None,
            };
            let help = format!("`max_attempts = {}`", number.unwrap_or(5));
            Err(error_at(lit, "`max_attempts` must be a number, or an expression of type `u32`", help))
        }
        Expr::Unary(negative) => Err(error_at(negative, "`max_attempts` must be a `u32`", "`max_attempts = 5`")),
        _ => Ok(Attempts::Value(expr)),
    }
}

fn transaction(input: ParseStream<'_>, name: &Ident) -> syn::Result<Ident> {
    let expr = value(input, name, "tx")?;
    let inner = match ungrouped(&expr) {
        Expr::Reference(reference) => ungrouped(&reference.expr),
        inner => inner,
    };
    match (ungrouped(&expr), inner) {
        (Expr::Path(path), _) if path.path.get_ident().is_some_and(|ident| ident != "self") => {
            Ok(path.path.get_ident().cloned().unwrap_or_else(|| name.clone()))
        }
        (_, Expr::Path(path)) if path.path.get_ident().is_some_and(|ident| ident != "self") => Err(error_at(
            &expr,
            "`transaction` must be the name of an argument",
            format!("`transaction = {}`", typed(&path.path)),
        )),
        _ => Err(error_at(&expr, "`transaction` must be the name of an argument", "`transaction = tx`")),
    }
}

fn flag(input: ParseStream<'_>, name: &Ident) -> syn::Result<bool> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(true);
    }
    Err(error_at(name, format!("`{name}` takes no value"), format!("`{name}`")))
}

fn krate(input: ParseStream<'_>, name: &Ident) -> syn::Result<Path> {
    const EXAMPLE: &str = "::my_crate::idempotent";
    equals(input, name, EXAMPLE)?;
    if let Ok(literal) = input.fork().parse::<LitStr>() {
        return Err(error_at(
            &literal,
            "`crate` must be a path, not a string",
            format!("`crate = {}`", literal.value()),
        ));
    }
    input.call(Path::parse_mod_style).map_err(|error| unfinished(input, name, EXAMPLE).unwrap_or(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(args: &str) -> Vec<String> {
        let mut errors = Errors::default();
        Options::parse(args.parse().expect("tokens"), &mut errors);
        errors.texts()
    }

    #[test]
    fn every_option_in_every_form() {
        for args in [
            "",
            "key = order_id",
            "key = (tenant, &event.id), ttl = \"24h\",",
            "key = \"order:{order_id}\", ttl = Duration::from_secs(5)",
            "key = parse::<u8, u8>(a, b), skip(db, r#type,), detach",
            "name = \"a.b\", store = self.idempotency, lease = \"30s\", wait = \"0s\"",
            "errors = release, abandoned = rerun, crate = ::other::path",
            "errors = keep, abandoned = refuse, crate = crate",
            "errors = PaymentError::is_final",
            "key = id, transaction = tx",
            "abandoned = reconcile(find), settle_after = \"1m\", max_attempts = 3, retry_after = \"30s\"",
            "abandoned = reconcile(self::bank::find), max_attempts = limit, retry_after = Backoff::exponential(a, b)",
        ] {
            assert_eq!(errors(args), Vec::<String>::new(), "{args}");
        }
    }

    #[test]
    fn five_mistakes_are_five_errors() {
        let found = errors("tll = \"1h\", ttl = 30, key, abandoned = forget, skip(1 + 1), wait = \"1s\"");
        let first_lines: Vec<&str> = found.iter().filter_map(|error| error.lines().next()).collect();
        assert_eq!(
            first_lines,
            [
                "unknown option `tll`",
                "`ttl` must be a string with a unit, or an expression of type `Duration`",
                "`key` needs a value",
                "`abandoned` must be `rerun`, `refuse` or `reconcile(PATH)`",
                "`skip` takes argument names only",
            ]
        );
    }

    #[test]
    fn an_option_after_a_mistake_is_parsed() {
        for args in ["key = a,, ttl = 30", "key = a b, ttl = 30", "; key, ttl = 30", "24h, ttl = 30"] {
            assert_eq!(errors(args).len(), 2, "{args}");
        }
    }

    #[test]
    fn help_can_be_typed() {
        for (args, help) in [
            ("ttl = 30", "help: `ttl = \"30s\"`"),
            ("ttl = 24h", "help: `ttl = \"24h\"`"),
            ("ttl = 30u64", "help: `ttl = \"30s\"`"),
            ("24h", "help: `ttl = \"24h\"`"),
            ("ttl = \"2 hours\"", "help: `ttl = \"2h\"`"),
            ("\"24h\"", "help: `ttl = \"24h\"`"),
            ("\"order:{id}\"", "help: `key = \"order:{id}\"`"),
            ("name = payments.charge", "help: `name = \"payments.charge\"`"),
            ("crate = \"::a\"", "help: `crate = ::a`"),
            ("abandoned = refus", "help: `abandoned = refuse`"),
            ("abandoned = reconcil(find)", "help: `abandoned = reconcile(find_charge)`"),
            ("abandoned = reconcile", "help: `abandoned = reconcile(find_charge)`"),
            ("abandoned = reconcile()", "help: `reconcile(find_charge)`"),
            ("abandoned = reconcile(find(id))", "help: `reconcile(find)`"),
            ("abandoned = reconcile(|run| find(run))", "help: `reconcile(find_charge)`"),
            ("max_attempts = \"3\"", "help: `max_attempts = 3`"),
            ("max_attempts = 3u8", "help: `max_attempts = 5`"),
            ("max_attempts = -1", "help: `max_attempts = 5`"),
            ("max_attempts", "help: `max_attempts = 5`"),
            ("retry_after = 30", "help: `retry_after = \"30s\"`"),
            (
                "retries = 3",
                "help: the options are `key`, `ttl`, `name`, `skip`, `store`, `lease`, `wait`, `errors`, `abandoned`, `settle_after`, `max_attempts`, `retry_after`, `detach`, `transaction` and `crate`",
            ),
            ("detach = true", "help: `detach`"),
            ("key = a key = b", "help: `, key`"),
            ("key = a, key = b", "help: keep one of them"),
            ("skip = db", "help: `skip(db)`"),
            ("key = a; ttl = \"1h\"", "help: `,`"),
            ("TTL = \"1h\"", "help: did you mean `ttl`?"),
            ("key = order.", "help: `key = order_id`"),
            ("transaction = &mut tx", "help: `transaction = tx`"),
            ("transaction = self.tx", "help: `transaction = tx`"),
            ("transaction = self", "help: `transaction = tx`"),
            ("transaction", "help: `transaction = tx`"),
            ("transction = tx", "help: did you mean `transaction`?"),
            ("crate = ::", "help: `crate = ::my_crate::idempotent`"),
            ("key = a,, ttl = \"1h\"", "help: remove one `,`"),
        ] {
            let found = errors(args);
            assert_eq!(found.len(), 1, "{args}: {found:?}");
            assert!(found.iter().all(|error| error.ends_with(help)), "{args}: {found:?}");
        }
    }
}

//! The rules. All of them are checked, whichever of them fail.

mod key;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, Expr, ExprAwait, ExprTry, GenericParam, Ident, Lit, LitStr, Receiver, ReturnType, ext::IdentExt as _,
};

use self::key::{example_key, key};
use crate::{
    args::{Attempts, Key, OnAbandoned, Options, Time, ungrouped},
    diagnostics::{Errors, listed, nearest, typed},
    function::{Function, mentions},
    types,
};

/// The longest operation name that stores accept, in bytes.
const MAX_NAME: usize = 255;

/// The input of code generation.
pub(crate) struct Plan<'a> {
    /// The arguments that are hashed, in ascending order of their names.
    pub(crate) hashed: Vec<Hashed<'a>>,
    pub(crate) key: KeyPlan<'a>,
}

pub(crate) struct Hashed<'a> {
    pub(crate) name: String,
    pub(crate) ident: &'a Ident,
    pub(crate) cfg: &'a [Attribute],
}

pub(crate) enum KeyPlan<'a> {
    /// The hash of all arguments.
    Hash,
    Value(&'a Expr),
    Template(&'a LitStr, Vec<TemplatePiece<'a>>),
}

pub(crate) enum TemplatePiece<'a> {
    Text(String),
    Hole(&'a Ident),
}

/// Checks all rules. The plan has a meaning only if nothing was reported.
pub(crate) fn validate<'a>(
    options: &'a Options,
    function: &'a Function,
    file: Option<&str>,
    errors: &mut Errors,
) -> Plan<'a> {
    qualifiers(function, errors);
    output(function, errors);
    store(options, errors);
    name(options, function, file, errors);
    times(options, errors);
    attempts(options, function, errors);
    skipped(options, function, errors);
    arguments(options, function, errors);
    if options.detach {
        detached(options, function, errors);
    }
    if let Some(transaction) = &options.transaction {
        in_transaction(transaction, options, function, errors);
    }
    let mut hashed: Vec<Hashed<'_>> = function
        .names()
        .filter(|(ident, _)| !options.skips(ident))
        .map(|(ident, cfg)| Hashed { name: ident.unraw().to_string(), ident, cfg })
        .collect();
    hashed.sort_by(|a, b| a.name.cmp(&b.name));
    let key = key(options, function, hashed.is_empty(), errors);
    Plan { hashed, key }
}

fn qualifiers(function: &Function, errors: &mut Errors) {
    let signature = &function.signature;
    let name = &signature.ident;
    if function.body.is_none() {
        errors.at(
            name,
            format!("`{name}` has no body to run: a declaration cannot be idempotent"),
            "move `#[idempotent]` to the function in the `impl`",
        );
    } else if !function.is_async() {
        // `#[tokio::main]` and `#[tokio::test]` have made a blocking `fn` of the `async fn`.
        let blocks = function.body.as_ref().is_some_and(|body| mentions(body.stream(), "block_on"));
        let help = if blocks {
            "put `#[idempotent]` above the attribute that makes the function blocking, such as `#[tokio::main]`"
                .to_owned()
        } else {
            format!("`async fn {name}`")
        };
        errors.at(signature.fn_token, "an idempotent function must be `async`", help);
    }
    if let Some(again) = &function.again {
        errors.at(
            again,
            "`#[idempotent]` is given twice: the inner call would wait for the claim of the outer one",
            "remove one of the two",
        );
    }
    if let Some(constness) = &signature.constness {
        errors.at(
            constness,
            "a `const fn` cannot be idempotent: a store cannot be asked at compile time",
            "remove `const`",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.at(
            abi,
            "an `extern` function cannot be idempotent: it is called from outside of Rust",
            "remove `extern`",
        );
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(variadic, "variadic arguments cannot be hashed", "remove `...`");
    }
}

fn output(function: &Function, errors: &mut Errors) {
    let Some(output) = function.output() else {
        if let ReturnType::Default = function.signature.output {
            errors.at(
                &function.signature.ident,
                "an idempotent function must return a `Result`, to report a duplicate that is still running",
                "`-> Result<(), idempotent_runtime::Error>`",
            );
        }
        return;
    };
    // `fn … -> impl Future<Output = R>` is `async fn … -> R` written out. The missing `async` is reported already.
    let of_async = !function.is_async() && types::word(output, &["Future"]).is_some();
    if let Some(word) = types::word(output, &["impl"]).filter(|_| !of_async) {
        errors.at(
            word,
            "a result of type `impl Trait` cannot be replayed: a type without a name cannot be decoded",
            "name the type, and derive `serde::Serialize` and `serde::Deserialize` for it",
        );
    }
    // Only the outermost reference: those inside it disappear with it.
    if let Some(reference) = types::references(output).first() {
        errors.at(
            reference,
            "a returned reference cannot be replayed: the value that it borrows from is gone",
            format!("return an owned value: `{}`", types::owned(reference)),
        );
    } else if let Some(lifetime) = types::borrowed(output) {
        errors.at(
            &lifetime,
            "a result that borrows cannot be replayed: the value that it borrows from is gone",
            "return a type that owns its parts, and has no lifetime; only `Cow` may have one",
        );
    }
}

/// Checks that `store` is a handle that is there already.
fn store(options: &Options, errors: &mut Errors) {
    let Some(store) = &options.store else { return };
    let mut called = ungrouped(store);
    // `connect(URL).await?`
    while let Expr::Try(ExprTry { expr, .. }) | Expr::Await(ExprAwait { base: expr, .. }) = called {
        called = ungrouped(expr);
    }
    let connects = match called {
        Expr::Lit(literal) => matches!(literal.lit, Lit::Str(_)),
        Expr::Call(call) => match ungrouped(&call.func) {
            Expr::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "connect"),
            _ => false,
        },
        Expr::MethodCall(call) => call.method == "connect",
        _ => false,
    };
    if connects {
        errors.at(
            store,
            "`store` takes a handle that is there already: it is asked for in every call",
            "connect once, at start-up: `idempotent_runtime::install(Idempotency::connect(\"…\").await?)?`, and write no \
             `store`; or keep the handle: `store = self.idempotency`",
        );
    }
}

fn name(options: &Options, function: &Function, file: Option<&str>, errors: &mut Errors) {
    if let Some(literal) = &options.name {
        let len = literal.value().len();
        if len == 0 {
            errors.at(literal, "`name` must not be empty", format!("`name = \"{}\"`", suggested_name(function, file)));
        } else if len > MAX_NAME {
            errors.at(
                literal,
                format!("`name` has {len} bytes; the limit is {MAX_NAME}"),
                format!("`name = \"{}\"`", suggested_name(function, file)),
            );
        }
        return;
    }
    if options.names("name") {
        return;
    }
    let signature = &function.signature;
    // An argument of `impl Trait` is a type parameter without a name.
    let generic = signature.generics.params.iter().any(|param| !matches!(param, GenericParam::Lifetime(_)))
        || types::word(&signature.inputs, &["impl"]).is_some();
    let is_method = signature.receiver().is_some()
        || types::word(&signature.inputs, &["Self"]).is_some()
        || types::word(&signature.output, &["Self"]).is_some();
    let why = if is_method {
        "a method needs a `name`: the default, `module::function`, is the same for a method of another type"
    } else if generic {
        "a generic function needs a `name`: all instances of the function share it, and with it their records"
    } else {
        return;
    };
    errors.missing(why, format!("add `name = \"{}\"`", suggested_name(function, file)));
}

/// A name to type: `payments.charge` for `charge` in `payments.rs`.
fn suggested_name(function: &Function, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("{file}.{}", function.name()),
        None => function.name(),
    }
}

fn times(options: &Options, errors: &mut Errors) {
    for (name, example, time) in
        [("ttl", "24h", &options.ttl), ("lease", "30s", &options.lease), ("retry_after", "30s", &options.retry_after)]
    {
        if let Some(Time::Literal { literal, milliseconds: 0 }) = time {
            errors.at(literal, format!("`{name}` must not be zero"), format!("`{name} = \"{example}\"`"));
        }
    }
    if let (
        Some(Time::Literal { literal: ttl, milliseconds: kept }),
        Some(Time::Literal { literal: lease, milliseconds: held }),
    ) = (&options.ttl, &options.lease)
        && held > kept
        && *kept > 0
    {
        errors.at(
            lease,
            "`lease` is longer than `ttl`: a claim could outlive the result that it protects",
            format!("`lease = \"{}\"`, or a longer `ttl`", ttl.value()),
        );
    }
}

fn attempts(options: &Options, function: &Function, errors: &mut Errors) {
    if let Some(Attempts::Literal { literal, attempts: 0 }) = &options.max_attempts {
        errors.at(literal, "`max_attempts` must not be zero: the body would never run", "`max_attempts = 1`");
    }
    if let (
        Some(Time::Literal { literal: ttl, milliseconds: kept }),
        Some(Time::Literal { literal: pause, milliseconds: paused }),
    ) = (&options.ttl, &options.retry_after)
        && paused > kept
        && *kept > 0
    {
        errors.at(
            pause,
            "`retry_after` is longer than `ttl`: a record could end before its key is run again",
            format!("`retry_after = \"{}\"`, or a longer `ttl`", ttl.value()),
        );
    }
    let reconciles = matches!(options.abandoned, Some(OnAbandoned::Reconcile(_)));
    // A malformed `abandoned` may have meant it.
    let may_reconcile = reconciles || (options.abandoned.is_none() && options.names("abandoned"));
    if let Some(place) = options.place("settle_after").filter(|_| !may_reconcile) {
        errors.at(
            place,
            "`settle_after` tells when to believe a `reconcile` function that says \"not done\"",
            "add `abandoned = reconcile(…)`, or remove `settle_after`",
        );
    }
    if reconciles && let Some(cfg) = function.arguments.iter().find_map(|argument| argument.cfg.first()) {
        errors.at(
            cfg,
            "with `reconcile`, an argument cannot be conditional: the other function gets the same ones",
            "put `#[cfg(…)]` on two functions instead",
        );
    }
}

fn skipped(options: &Options, function: &Function, errors: &mut Errors) {
    for (position, skipped) in options.skip.iter().enumerate() {
        if skipped == "self" {
            errors.at(skipped, "`self` is never hashed", "remove `self` from `skip`");
        } else if options.is_transaction(skipped) {
            errors.at(skipped, "the transaction is never hashed", format!("remove `{skipped}` from `skip`"));
        } else if !function.names().any(|(ident, _)| ident.unraw() == skipped.unraw()) {
            errors.at(skipped, format!("no argument is called `{skipped}`"), meant(&skipped.to_string(), function));
        } else if options.skip.iter().take(position).any(|before| before.unraw() == skipped.unraw()) {
            errors.at(skipped, format!("`{skipped}` is skipped twice"), "remove one of the two");
        }
    }
}

/// The argument that the user probably meant, or a list of all arguments.
fn meant(word: &str, function: &Function) -> String {
    let arguments: Vec<String> = function.names().map(|(ident, _)| ident.to_string()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(meant) = nearest(word, arguments.iter().copied()) {
        return format!("did you mean `{meant}`?");
    }
    match arguments.as_slice() {
        [] => "the function has no arguments".to_owned(),
        [only] => format!("the only argument is `{only}`"),
        all => format!("the arguments are {}", listed(all)),
    }
}

fn arguments(options: &Options, function: &Function, errors: &mut Errors) {
    for argument in &function.arguments {
        if let Some(unnamed) = &argument.unnamed {
            errors.at(
                unnamed,
                "this part of an argument has no name, so it cannot be hashed",
                "name the argument; if it does not belong to the request, also list it in `skip(...)`",
            );
        }
        // A malformed `transaction` may mean this argument, which then would not be hashed.
        if options.names("transaction") && options.transaction.as_ref().is_none_or(|it| function.type_of(it).is_none())
        {
            continue;
        }
        let hashed = argument.names.iter().find(|name| !options.skips(name));
        if let Some(name) = hashed
            && types::references(&argument.ty).iter().any(|reference| reference.mutability.is_some())
        {
            errors.at(
                &argument.ty,
                format!("`{name}` cannot be hashed: a replay would not repeat what the body writes through `&mut`"),
                format!("return what the body writes, or leave the argument out: `{}`", skip_with(options, name)),
            );
        }
    }
}

/// The user's `skip`, with one more name.
fn skip_with(options: &Options, name: &Ident) -> String {
    let names: Vec<String> = options.skip.iter().chain([name]).map(ToString::to_string).collect();
    format!("skip({})", names.join(", "))
}

/// Checks the rules of `transaction = …`.
fn in_transaction(transaction: &Ident, options: &Options, function: &Function, errors: &mut Errors) {
    let Some(ty) = function.type_of(transaction) else {
        errors.at(
            transaction,
            format!("no argument is called `{transaction}`"),
            meant(&transaction.to_string(), function),
        );
        return;
    };
    if types::mutable_reference(ty).is_none() {
        errors.at(
            ty,
            format!("`{transaction}` must be borrowed: the caller commits the transaction"),
            format!("`{transaction}: &mut {}`", typed(types::without_reference(ty))),
        );
    }
    for (option, why) in [
        ("detach", "`detach` cannot be used with `transaction`: the body would outlive the caller's transaction"),
        ("lease", "`lease` cannot be used with `transaction`: the claim lives as long as the transaction"),
        ("abandoned", "`abandoned` cannot be used with `transaction`: a run that is not committed has not happened"),
        ("max_attempts", "`max_attempts` cannot be used with `transaction`: a rollback would take the count back"),
        ("retry_after", "`retry_after` cannot be used with `transaction`: a rollback would take the pause back"),
    ] {
        if let Some(place) = options.place(option) {
            errors.at(place, why, format!("remove `{option}` or `transaction`"));
        }
    }
    if let Some(Key::Value(expr)) = &options.key
        && let Some(place) = part_of_key(expr, options)
    {
        errors.at(
            place,
            "the transaction cannot be part of the key: it does not tell requests apart",
            example_key(function, options),
        );
    }
}

/// The transaction, where it is the key or an element of a tuple.
fn part_of_key<'a>(expr: &'a Expr, options: &Options) -> Option<&'a Ident> {
    match ungrouped(expr) {
        Expr::Path(path) => path.path.get_ident().filter(|name| options.is_transaction(name)),
        Expr::Paren(inner) => part_of_key(&inner.expr, options),
        Expr::Reference(inner) => part_of_key(&inner.expr, options),
        Expr::Tuple(tuple) => tuple.elems.iter().find_map(|part| part_of_key(part, options)),
        _ => None,
    }
}

fn detached(options: &Options, function: &Function, errors: &mut Errors) {
    let mut report = |tokens: TokenStream, help: String| {
        errors.at(tokens, "`detach` runs the body on a task of its own, which cannot borrow from the caller", help);
    };
    if let Some(receiver) = function.signature.receiver().filter(|receiver| borrows(receiver)) {
        report(receiver.to_token_stream(), "`self: std::sync::Arc<Self>`".to_owned());
    }
    for argument in
        function.arguments.iter().filter(|argument| !argument.names.iter().any(|name| options.is_transaction(name)))
    {
        let short = |reference: &syn::TypeReference| {
            reference.lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static")
        };
        if let Some(reference) = types::references(&argument.ty).into_iter().find(short) {
            let owned = types::owned(&reference);
            report(reference.into_token_stream(), format!("take an owned value: `{owned}`"));
        } else if let Some(lifetime) = types::short_lifetimes(&argument.ty).into_iter().next() {
            report(lifetime.into_token_stream(), "`'static`".to_owned());
        }
    }
}

fn borrows(receiver: &Receiver) -> bool {
    !types::references(receiver).is_empty() || !types::short_lifetimes(receiver).is_empty()
}

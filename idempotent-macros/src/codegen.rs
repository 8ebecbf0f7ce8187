//! The code. Nothing is decided here.

use proc_macro2::{Delimiter, Group, Ident, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Expr, LitStr, Type, spanned::Spanned as _};

use crate::{
    args::{OnAbandoned, OnError, Options, Time, ungrouped},
    function::{Boxed, Function, mentions},
    validate::{Hashed, KeyPlan, Plan, TemplatePiece},
};

struct Generator<'a> {
    options: &'a Options,
    function: &'a Function,
    plan: &'a Plan<'a>,
    output: TokenStream,
    /// `::idempotent_runtime`
    krate: TokenStream,
}

/// Input, with `key = order_id, ttl = "24h"`:
///
/// ```text
/// async fn charge(order_id: &str, amount: u64) -> Result<Receipt, Error> { BODY }
/// ```
///
/// Output:
///
/// ```text
/// async fn charge(order_id: &str, amount: u64) -> Result<Receipt, Error> {
///     use ::idempotent_runtime::__private as runtime;
///     let call;
///     let body = pin!({
///         let (order_id, amount) = (order_id, amount);
///         call = {
///             let mut arguments = runtime::arguments(None, 2);
///             runtime::argument(&mut arguments, "amount", &amount);
///             runtime::argument(&mut arguments, "order_id", &order_id);
///             runtime::call(runtime::operation("module::charge").ttl(…), arguments, &order_id)
///         };
///         Some(async move {
///             let _ = (&order_id, &amount);
///             if let Some(never) = None::<Result<Receipt, Error>> { return never; }
///             BODY
///         })
///     });
///     runtime::run(call, body).await
/// }
/// ```
pub(crate) fn generate(options: &Options, function: &Function, plan: &Plan<'_>) -> TokenStream {
    let (Some(body), Some(output)) = (&function.body, function.output()) else { return TokenStream::new() };
    let krate = options
        .krate
        .as_ref()
        .map_or_else(|| quote_spanned!(Span::mixed_site()=> ::idempotent_runtime), ToTokens::to_token_stream);
    let generator = Generator { options, function, plan, output: output.to_token_stream(), krate };
    let code = match &function.boxed {
        None => {
            let (attributes, block) = split_inner_attributes(body);
            let run = generator.run(&block);
            quote!(#attributes #run)
        }
        Some(boxed) => {
            let run = generator.run(&boxed.body);
            let Boxed { before, pin, keywords, inner, .. } = boxed;
            let block = braced(quote!(#inner #run), boxed.braces);
            quote_spanned!(Span::mixed_site()=> #before #pin(#keywords #block))
        }
    };
    let mut item = function.head.clone();
    item.extend([TokenTree::from(braced(code, body.span()))]);
    item
}

impl Generator<'_> {
    /// The claim, and the body behind it.
    fn run(&self, body: &Group) -> TokenStream {
        let (output, claim) = (&self.output, self.claim());
        let body = block(body);
        let hint = quote_spanned! {Span::mixed_site()=>
            // The result's type, before the body is looked at: an `async` block has no other place for it.
            if let ::core::option::Option::Some(__idempotent_never) = ::core::option::Option::None::<#output> {
                return __idempotent_never;
            }
        };
        let krate = &self.krate;
        let allow = self.uses_underscore().then(allow_underscore);
        // The arguments that the claim borrows end with this block: what was borrowed would else stay in the future until the
        // function returns, although it was moved into the body.
        let (mut ours, mut keep) = (TokenStream::new(), TokenStream::new());
        for (ident, cfg) in self.function.names() {
            let ends_here = self.borrows(ident) && !self.function.is_mutable(ident) && !starts_with_underscore(ident);
            if ends_here {
                ours.extend(quote_spanned!(Span::mixed_site()=> #(#cfg)* let #ident = #ident;));
            }
            // A detached body owns all arguments, as the function does: a guard that it never names is held until it ends.
            if ends_here || self.options.detach {
                let allow = allow_underscore();
                keep.extend(quote_spanned!(Span::mixed_site()=> #(#cfg)* #allow let _ = &#ident;));
            }
        }
        let body = quote_spanned!(Span::mixed_site()=> async move { #keep #hint #body });
        if let Some(transaction) = &self.options.transaction {
            return self.run_in(
                transaction,
                &quote_spanned!(Span::mixed_site()=> #allow { __idempotent_call = #claim; }),
                &ours,
                &body,
            );
        }
        let (run, body) = if self.options.detach {
            ("run_detached", body)
        } else {
            ("run", quote_spanned!(Span::mixed_site()=> ::core::option::Option::Some(#body)))
        };
        let mut body = quote_spanned! {Span::mixed_site()=> {
            #ours
            #allow
            { __idempotent_call = #claim; }
            #body
        }};
        if !self.options.detach {
            body = quote_spanned!(Span::mixed_site()=> ::core::pin::pin!(#body));
        }
        let run = Ident::new(run, Span::mixed_site());
        let run = self.at_output(quote_spanned! {Span::mixed_site()=>
            __idempotent::#run(__idempotent_call, __idempotent_body).await
        });
        quote_spanned! {Span::mixed_site()=>
            use #krate::__private as __idempotent;
            let __idempotent_call;
            let __idempotent_body = #body;
            #run
        }
    }

    /// The same in the caller's transaction, which is the runtime's before and after the body, and the body's meanwhile:
    ///
    /// ```text
    /// match runtime::begin(call, runtime::transaction(&mut *tx)).await {
    ///     Break(answer) => answer,
    ///     Continue(mut begun) => {
    ///         let output = {
    ///             let (around, tx) = begun.body();
    ///             around.run(pin!(Some(async move { BODY }))).await
    ///         };
    ///         begun.finish(output).await
    ///     }
    /// }
    /// ```
    fn run_in(&self, transaction: &Ident, call: &TokenStream, ours: &TokenStream, body: &TokenStream) -> TokenStream {
        let krate = &self.krate;
        let begin = self.at_output(quote_spanned! {Span::mixed_site()=>
            __idempotent::begin(__idempotent_call, __idempotent_transaction).await
        });
        let ty = self.function.type_of(transaction).map_or_else(|| transaction.span(), last_word);
        let place = quote_spanned!(Span::mixed_site()=> __idempotent::transaction(&mut *#transaction));
        let place = located(place, ty);
        // As the function has it, so that a body that does not need it so is told.
        let is_mutable = self.function.is_mutable(transaction);
        let mutable = is_mutable.then(|| quote_spanned!(transaction.span()=> mut));
        let allow = starts_with_underscore(transaction).then(allow_underscore);
        let used = is_mutable.then(|| quote_spanned!(Span::mixed_site()=> #allow let _ = &mut #transaction;));
        quote_spanned! {Span::mixed_site()=>
            use #krate::__private as __idempotent;
            let __idempotent_call;
            #call
            #used
            #allow
            let __idempotent_transaction = #place;
            match #begin {
                ::core::ops::ControlFlow::Break(__idempotent_answer) => __idempotent_answer,
                ::core::ops::ControlFlow::Continue(mut __idempotent_begun) => {
                    let __idempotent_output = {
                        let (__idempotent_around, #mutable #transaction) = __idempotent_begun.body();
                        #ours
                        let __idempotent_body = ::core::pin::pin!(::core::option::Option::Some(#body));
                        let __idempotent_output = __idempotent_around.run(__idempotent_body).await;
                        __idempotent_output
                    };
                    __idempotent_begun.finish(__idempotent_output).await
                }
            }
        }
    }

    /// A call into the runtime that is underlined at the return type, where its bounds are to be met. It has to be one
    /// token of it: with more than one place, each bound would be reported at each.
    fn at_output(&self, call: TokenStream) -> TokenStream {
        located(call, self.function.output().map_or_else(Span::mixed_site, last_word))
    }

    /// Hashes, encodes the key, and asks for the call.
    fn claim(&self) -> TokenStream {
        let (call, key) = match &self.plan.key {
            KeyPlan::Hash => ("call_by_hash", TokenStream::new()),
            KeyPlan::Value(expr) => ("call", self.user(by_reference(expr))),
            KeyPlan::Template(literal, pieces) => ("call_by_template", template(literal, pieces)),
        };
        let (call, operation) = (Ident::new(call, Span::mixed_site()), self.operation());
        let claim = |store: TokenStream| {
            let arguments = self.arguments(&store);
            quote_spanned!(Span::mixed_site()=> #arguments __idempotent::#call(#operation, __idempotent_arguments, #key))
        };
        let code = match &self.options.store {
            None => claim(quote_spanned!(Span::mixed_site()=> ::core::option::Option::None)),
            Some(store) => {
                let place = self.user(by_reference(store));
                let (place, handle) = match ungrouped(store) {
                    // What a branch or a block ends in is a reference or a handle: expected to be one, the other is refused.
                    Expr::If(_) | Expr::Match(_) | Expr::Block(_) | Expr::Unsafe(_) => {
                        (place, quote_spanned!(Span::mixed_site()=> __idempotent::handle(__idempotent_store)))
                    }
                    _ => (
                        quote_spanned!(Span::mixed_site()=> __idempotent::handle(#place)),
                        quote_spanned!(Span::mixed_site()=> __idempotent_store),
                    ),
                };
                let claim = claim(handle);
                // What the expression borrows from lives until the call is made.
                quote_spanned!(Span::mixed_site()=> match #place { __idempotent_store => { #claim } })
            }
        };
        quote_spanned!(Span::mixed_site()=> { #code })
    }

    fn arguments(&self, store: &TokenStream) -> TokenStream {
        let always = self.plan.hashed.iter().filter(|argument| argument.cfg.is_empty()).count();
        let sometimes = self.plan.hashed.iter().filter(|argument| !argument.cfg.is_empty()).map(|argument| {
            let predicates = argument.cfg.iter().filter_map(|cfg| cfg.meta.require_list().ok()).map(|cfg| &cfg.tokens);
            quote_spanned!(Span::mixed_site()=> + ::core::cfg!(all(#(#predicates),*)) as ::core::primitive::usize)
        });
        let mutable = (!self.plan.hashed.is_empty()).then(|| quote_spanned!(Span::mixed_site()=> mut));
        let each = self.plan.hashed.iter().map(|Hashed { name, ident, cfg }| {
            let and = quote_spanned!(Span::mixed_site().located_at(ident.span())=> &);
            quote_spanned! {Span::mixed_site()=>
                #(#cfg)* __idempotent::argument(&mut __idempotent_arguments, #name, #and #ident);
            }
        });
        quote_spanned! {Span::mixed_site()=>
            let #mutable __idempotent_arguments = __idempotent::arguments(#store, #always #(#sometimes)*);
            #(#each)*
        }
    }

    fn operation(&self) -> TokenStream {
        let (options, output) = (self.options, &self.output);
        let name = if let Some(name) = &options.name {
            name.to_token_stream()
        } else {
            let function = format!("::{}", self.function.name());
            quote_spanned!(Span::mixed_site()=> ::core::concat!(::core::module_path!(), #function))
        };
        let ttl = options.ttl.as_ref().map(|ttl| self.time("ttl", ttl));
        let lease = options.lease.as_ref().map(|lease| self.time("lease", lease));
        let wait = options.wait.as_ref().map(|wait| self.time("wait", wait));
        let abandoned = match &options.abandoned {
            Some(OnAbandoned::Refuse) => {
                Some(quote_spanned!(Span::mixed_site()=> .abandoned(__idempotent::OnAbandoned::Refuse)))
            }
            Some(OnAbandoned::Rerun) | None => None,
        };
        let operation =
            quote_spanned!(Span::mixed_site()=> __idempotent::operation(#name) #ttl #lease #wait #abandoned);
        match &options.errors {
            OnError::Release => operation,
            OnError::Keep => quote_spanned!(Span::mixed_site()=> #operation.keep_errors()),
            OnError::KeepIf(keep) => quote_spanned! {Span::mixed_site()=>
                __idempotent::keep_errors_if::<#output>(#operation, #keep)
            },
        }
    }

    fn time(&self, setter: &str, time: &Time) -> TokenStream {
        let setter = Ident::new(setter, Span::mixed_site());
        let time = match time {
            Time::Literal { milliseconds, .. } => {
                quote_spanned!(Span::mixed_site()=> ::core::time::Duration::from_millis(#milliseconds))
            }
            Time::Value(expr) => self.user(expr),
        };
        quote_spanned!(Span::mixed_site()=> .#setter(#time))
    }

    /// Whether the claim looks at an argument.
    fn borrows(&self, argument: &Ident) -> bool {
        let in_key = match &self.plan.key {
            KeyPlan::Hash => false,
            KeyPlan::Value(expr) => mentions(expr.to_token_stream(), &argument.to_string()),
            KeyPlan::Template(_, pieces) => {
                pieces.iter().any(|piece| matches!(piece, TemplatePiece::Hole(hole) if *hole == argument))
            }
        };
        in_key || self.plan.hashed.iter().any(|hashed| hashed.ident == argument)
    }

    fn uses_underscore(&self) -> bool {
        let holes = match &self.plan.key {
            KeyPlan::Template(_, pieces) => pieces.as_slice(),
            KeyPlan::Hash | KeyPlan::Value(_) => &[],
        };
        let holes = holes.iter().filter_map(|piece| match piece {
            TemplatePiece::Hole(ident) => Some(*ident),
            TemplatePiece::Text(_) => None,
        });
        let hashed = self.plan.hashed.iter().map(|argument| argument.ident);
        hashed.chain(holes).any(starts_with_underscore)
    }

    /// The user's expression; what `#[async_trait]` renamed in the body is renamed here as well.
    fn user(&self, expr: impl ToTokens) -> TokenStream {
        let tokens = expr.to_token_stream();
        match self.function.boxed.as_ref().and_then(|boxed| boxed.receiver.as_ref()) {
            Some(receiver) => rename_self(tokens, receiver),
            None => tokens,
        }
    }
}

/// `|key| { literal(key, "order:")?; hole(key, &order_id) }`
fn template(literal: &LitStr, pieces: &[TemplatePiece<'_>]) -> TokenStream {
    let mut code = TokenStream::new();
    for piece in pieces {
        let write = match piece {
            TemplatePiece::Text(text) => {
                quote_spanned!(Span::mixed_site()=> __idempotent::literal(__idempotent_key, #text))
            }
            TemplatePiece::Hole(ident) => {
                let value = quote_spanned!(Span::mixed_site()=> &#ident);
                let value = located(value, literal.span());
                quote_spanned!(Span::mixed_site()=> __idempotent::hole(__idempotent_key, #value))
            }
        };
        code.extend(if code.is_empty() { write } else { quote_spanned!(Span::mixed_site()=> ?; #write) });
    }
    quote_spanned!(Span::mixed_site()=> |__idempotent_key| { #code })
}

/// One token of a type: its own name.
fn last_word(ty: &Type) -> Span {
    match ty {
        Type::Path(path) => path.path.segments.last().map_or_else(|| path.span(), |last| last.ident.span()),
        Type::Reference(reference) => last_word(&reference.elem),
        other => other.span(),
    }
}

fn starts_with_underscore(ident: &Ident) -> bool {
    ident.to_string().starts_with('_')
}

/// An argument may be unused in the body, and hashed.
fn allow_underscore() -> TokenStream {
    quote_spanned!(Span::mixed_site()=> #[allow(clippy::used_underscore_binding)])
}

/// `&(EXPR)`, and so for the parts of a tuple: a key is written from references, and moves nothing.
fn by_reference(expr: &Expr) -> TokenStream {
    let and = quote_spanned!(Span::mixed_site().located_at(expr.span())=> &);
    match ungrouped(expr) {
        Expr::Tuple(tuple) => {
            let parts = tuple.elems.iter().map(by_reference);
            let mut parts = Group::new(Delimiter::Parenthesis, quote_spanned!(Span::mixed_site()=> #(#parts,)*));
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

/// Tokens that are underlined at `span`, and mean what they meant.
fn located(tokens: TokenStream, span: Span) -> TokenStream {
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

/// `self` by another name; the `self` of paths stays.
fn rename_self(tokens: TokenStream, receiver: &Ident) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut renamed = TokenStream::new();
    while let Some(token) = tokens.next() {
        renamed.extend([match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), rename_self(group.stream(), receiver));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            TokenTree::Ident(ident) if ident == "self" && !starts_path(tokens.peek()) => {
                let mut receiver = receiver.clone();
                receiver.set_span(receiver.span().located_at(ident.span()));
                TokenTree::Ident(receiver)
            }
            token => token,
        }]);
    }
    renamed
}

fn starts_path(next: Option<&TokenTree>) -> bool {
    matches!(next, Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
}

/// Inner attributes belong to the function, and the block around the rest to the body.
fn split_inner_attributes(body: &Group) -> (TokenStream, Group) {
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

/// The body as a block inside of another. Around a single expression the braces are ours: as the user's, they would be
/// reported as superfluous.
fn block(body: &Group) -> Group {
    let statement = |token: TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
    let single = !body.stream().into_iter().any(statement);
    let span = if single { Span::mixed_site().located_at(body.span()) } else { body.span() };
    braced(body.stream(), span)
}

fn braced(tokens: TokenStream, span: Span) -> Group {
    let mut group = Group::new(Delimiter::Brace, tokens);
    group.set_span(span);
    group
}

//! The code. Nothing is decided here.

use proc_macro2::{Delimiter, Group, Ident, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Expr, spanned::Spanned as _};

use crate::{
    args::{OnAbandoned, OnError, Options, Time, ungrouped},
    function::Function,
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
///     let call = match {
///         let mut arguments = ::idempotent_runtime::__private::Arguments::new(2);
///         arguments.argument("amount", &amount);
///         arguments.argument("order_id", &order_id);
///         ::idempotent_runtime::__private::call(None, operation("module::charge").ttl(…), arguments, &order_id)
///     } {
///         Ok(call) => call,
///         Err(error) => return ::idempotent_runtime::__private::fail(error),
///     };
///     let body = pin!(async move {
///         if let Some(never) = None::<Result<Receipt, Error>> { return never; }
///         BODY
///     });
///     ::idempotent_runtime::__private::run(call, body).await
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
            let run = generator.run(&block.into_token_stream());
            quote!(#attributes #run)
        }
        Some(boxed) => {
            let run = generator.run(&boxed.body);
            let (before, pin, inner) = (&boxed.before, &boxed.pin, &boxed.inner);
            quote_spanned!(Span::mixed_site()=> #before #pin(async move { #inner #run }))
        }
    };
    let mut braces = Group::new(Delimiter::Brace, code);
    braces.set_span(body.span());
    let mut item = function.head.clone();
    item.extend([TokenTree::from(braces)]);
    item
}

impl Generator<'_> {
    /// The claim, and the body behind it.
    fn run(&self, body: &TokenStream) -> TokenStream {
        let (output, claim) = (&self.output, self.claim());
        let fail = self.at_output("fail", quote_spanned!(Span::mixed_site()=> (__idempotent_error)));
        let hint = quote_spanned! {Span::mixed_site()=>
            // The result's type, before the body is looked at: an `async` block has no other place for it.
            if let ::core::option::Option::Some(__idempotent_never) = ::core::option::Option::None::<#output> {
                return __idempotent_never;
            }
        };
        let claim = quote_spanned! {Span::mixed_site()=>
            let __idempotent_call = match #claim {
                ::core::result::Result::Ok(__idempotent_call) => __idempotent_call,
                ::core::result::Result::Err(__idempotent_error) => return #fail,
            };
        };
        if self.options.detach {
            let keep = self.keep_arguments();
            let run = self.at_output(
                "run_detached",
                quote_spanned!(Span::mixed_site()=> (__idempotent_call, __idempotent_body).await),
            );
            return quote_spanned! {Span::mixed_site()=>
                #claim
                let __idempotent_body = async move { #keep #hint #body };
                #run
            };
        }
        let run =
            self.at_output("run", quote_spanned!(Span::mixed_site()=> (__idempotent_call, __idempotent_body).await));
        quote_spanned! {Span::mixed_site()=>
            #claim
            let __idempotent_body = ::core::pin::pin!(::core::option::Option::Some(async move { #hint #body }));
            #run
        }
    }

    /// A call into the runtime that is underlined at the return type, where its bounds are to be met.
    fn at_output(&self, name: &str, rest: TokenStream) -> TokenStream {
        let spans: Vec<Span> = self.output.clone().into_iter().map(|token| token.span()).collect();
        let first = spans.first().copied().unwrap_or_else(Span::mixed_site);
        let last = spans.last().copied().unwrap_or_else(Span::mixed_site);
        let mut path = self.krate.clone();
        path.extend(quote_spanned!(Span::mixed_site()=> ::__private::));
        let mut call = located(path, first);
        call.extend([TokenTree::from(Ident::new(name, Span::mixed_site().located_at(last)))]);
        call.extend(located(rest, last));
        call
    }

    /// Hashes, encodes the key, and asks for the call.
    fn claim(&self) -> TokenStream {
        let (krate, arguments) = (&self.krate, self.arguments());
        let store = match &self.options.store {
            None => quote_spanned!(Span::mixed_site()=> ::core::option::Option::None),
            Some(store) => {
                let store = self.user(store);
                quote_spanned!(Span::mixed_site()=> #krate::__private::handle(&(#store)))
            }
        };
        let (call, key) = match &self.plan.key {
            KeyPlan::Hash => ("call_by_hash", TokenStream::new()),
            KeyPlan::Value(expr) => ("call", self.user(by_reference(expr))),
            KeyPlan::Template(pieces) => ("call_by_template", self.template(pieces)),
        };
        let (call, operation) = (Ident::new(call, Span::mixed_site()), self.operation());
        quote_spanned! {Span::mixed_site()=> {
            #arguments
            #krate::__private::#call(#store, #operation, __idempotent_arguments, #key)
        }}
    }

    fn arguments(&self) -> TokenStream {
        let krate = &self.krate;
        let always = self.plan.hashed.iter().filter(|argument| argument.cfg.is_empty()).count();
        let sometimes = self.plan.hashed.iter().filter(|argument| !argument.cfg.is_empty()).map(|argument| {
            let predicates = argument.cfg.iter().filter_map(|cfg| cfg.meta.require_list().ok()).map(|cfg| &cfg.tokens);
            quote_spanned!(Span::mixed_site()=> + ::core::cfg!(all(#(#predicates),*)) as usize)
        });
        let mutable = (!self.plan.hashed.is_empty()).then(|| quote_spanned!(Span::mixed_site()=> mut));
        let each = self.plan.hashed.iter().map(|Hashed { name, ident, cfg }| {
            let and = quote_spanned!(Span::mixed_site().located_at(ident.span())=> &);
            quote_spanned!(Span::mixed_site()=> #(#cfg)* __idempotent_arguments.argument(#name, #and #ident);)
        });
        quote_spanned! {Span::mixed_site()=>
            let #mutable __idempotent_arguments = #krate::__private::Arguments::new(#always #(#sometimes)*);
            #(#each)*
        }
    }

    fn operation(&self) -> TokenStream {
        let (options, krate, output) = (self.options, &self.krate, &self.output);
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
                Some(quote_spanned!(Span::mixed_site()=> .abandoned(#krate::Abandoned::Refuse)))
            }
            Some(OnAbandoned::Rerun) | None => None,
        };
        let operation =
            quote_spanned!(Span::mixed_site()=> #krate::__private::operation(#name) #ttl #lease #wait #abandoned);
        match &options.errors {
            OnError::Release => operation,
            OnError::Store => quote_spanned!(Span::mixed_site()=> #operation.store_errors()),
            OnError::StoreIf(keep) => quote_spanned! {Span::mixed_site()=>
                #krate::__private::store_errors_if::<#output>(#operation, #keep)
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

    /// `|key| { key.literal("order:")?; hole(key, &order_id) }`
    fn template(&self, pieces: &[TemplatePiece<'_>]) -> TokenStream {
        let krate = &self.krate;
        let writes = pieces.iter().map(|piece| match piece {
            TemplatePiece::Text(text) => quote_spanned!(Span::mixed_site()=> __idempotent_key.literal(#text)),
            TemplatePiece::Hole(ident) => {
                quote_spanned!(Span::mixed_site()=> #krate::__private::hole(__idempotent_key, &#ident))
            }
        });
        let mut code = TokenStream::new();
        for write in writes {
            let next = if code.is_empty() { write } else { quote_spanned!(Span::mixed_site()=> ?; #write) };
            code.extend(next);
        }
        quote_spanned!(Span::mixed_site()=> |__idempotent_key| { #code })
    }

    /// A detached body owns all arguments, as the function does: a guard that it never names is held until it ends.
    fn keep_arguments(&self) -> TokenStream {
        let arguments = self.function.arguments.iter().flat_map(|argument| {
            let cfg = &argument.cfg;
            argument.names.iter().map(move |ident| quote_spanned!(Span::mixed_site()=> #(#cfg)* let _ = &#ident;))
        });
        arguments.collect()
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
        _ => quote_spanned!(Span::mixed_site().located_at(expr.span())=> #and(#expr)),
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
    let mut block = Group::new(Delimiter::Brace, rest.iter().cloned().collect());
    block.set_span(body.span());
    (attributes, block)
}

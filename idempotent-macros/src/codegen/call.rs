//! `CALL`: hashes the arguments, encodes the key, and names the operation.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{Expr, LitStr};

use super::{
    Generator,
    tokens::{by_reference, located, rename_self},
};
use crate::{
    args::{Attempts, OnAbandoned, OnError, Time, ungrouped},
    validate::{Hashed, KeyPlan, TemplatePiece},
};

impl Generator<'_> {
    /// Input, with `key = order_id, store = self.idempotency`: the arguments `order_id` and `amount`. Output:
    ///
    /// ```text
    /// {
    ///     match runtime::handle(&self.idempotency) {
    ///         store => {
    ///             static FUNCTION: runtime::Function = …;
    ///             let mut arguments = runtime::arguments(&FUNCTION, type_name_of_val(&|| {}), store, 2);
    ///             runtime::argument(&mut arguments, "amount", &amount);
    ///             runtime::argument(&mut arguments, "order_id", &order_id);
    ///             runtime::call(runtime::operation("module::charge"), arguments, &order_id)
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// Without `store`, there is no `match`, and `arguments` gets `None`.
    pub(super) fn call(&self) -> TokenStream {
        let (function, key) = match &self.plan.key {
            KeyPlan::Hash => ("call_by_hash", TokenStream::new()),
            KeyPlan::Value(expr) => ("call", self.user(by_reference(expr))),
            KeyPlan::Template(literal, pieces) => ("call_by_template", template(literal, pieces)),
        };
        let (function, operation) = (Ident::new(function, Span::mixed_site()), self.operation());
        let call = |store: TokenStream| {
            let arguments = self.arguments(&store);
            quote_mixed!(#arguments __idempotent::#function(#operation, __idempotent_arguments, #key))
        };
        let code = match &self.options.store {
            None => call(quote_mixed!(::core::option::Option::None)),
            Some(store) => {
                let place = self.user(by_reference(store));
                let (place, handle) = match ungrouped(store) {
                    // A branch or a block ends in a reference or in a handle. Passed to `handle` at once, the compiler
                    // would expect a reference in each branch, and refuse the handle.
                    Expr::If(_) | Expr::Match(_) | Expr::Block(_) | Expr::Unsafe(_) => {
                        (place, quote_mixed!(__idempotent::handle(__idempotent_store)))
                    }
                    _ => (quote_mixed!(__idempotent::handle(#place)), quote_mixed!(__idempotent_store)),
                };
                let call = call(handle);
                // `match`, not `let`: the temporaries of its expression live until the call is made.
                quote_mixed!(match #place { __idempotent_store => { #call } })
            }
        };
        quote_mixed!({ #code })
    }

    fn arguments(&self, store: &TokenStream) -> TokenStream {
        let always = self.plan.hashed.iter().filter(|argument| argument.cfg.is_empty()).count();
        let sometimes = self.plan.hashed.iter().filter(|argument| !argument.cfg.is_empty()).map(|argument| {
            let predicates = argument.cfg.iter().filter_map(|cfg| cfg.meta.require_list().ok()).map(|cfg| &cfg.tokens);
            quote_mixed!(+ ::core::cfg!(all(#(#predicates),*)) as ::core::primitive::usize)
        });
        let mutable = (!self.plan.hashed.is_empty()).then(|| quote_mixed!(mut));
        let each = self.plan.hashed.iter().map(|Hashed { name, ident, cfg }| {
            let and = quote_spanned!(Span::mixed_site().located_at(ident.span())=> &);
            quote_mixed! {
                #(#cfg)* __idempotent::argument(&mut __idempotent_arguments, #name, #and #ident);
            }
        });
        let function = self.the_function();
        quote_mixed! {
            #function
            let #mutable __idempotent_arguments = __idempotent::arguments(
                &__IDEMPOTENT_FUNCTION, ::core::any::type_name_of_val(&|| {}), #store, #always #(#sometimes)*
            );
            #(#each)*
        }
    }

    /// `static FUNCTION: runtime::Function = runtime::Function::new("module::charge", true, TypeId::of::<Here>, file!(), line!());`
    ///
    /// The type inside the function tells it from every other one, also where both have one path and one line.
    fn the_function(&self) -> TokenStream {
        let (name, is_default) = (self.name(), self.options.name.is_none());
        quote_mixed! {
            static __IDEMPOTENT_FUNCTION: __idempotent::Function = __idempotent::Function::new(
                #name,
                #is_default,
                {
                    enum __IdempotentHere {}
                    ::core::any::TypeId::of::<__IdempotentHere>
                },
                ::core::file!(),
                ::core::line!(),
            );
        }
    }

    fn name(&self) -> TokenStream {
        if let Some(name) = &self.options.name {
            return name.to_token_stream();
        }
        let function = format!("::{}", self.function.name());
        quote_mixed!(::core::concat!(::core::module_path!(), #function))
    }

    /// `runtime::operation("payments.charge").ttl(…).keep_errors()`
    fn operation(&self) -> TokenStream {
        let (options, output) = (self.options, &self.output);
        let name = self.name();
        let ttl = options.ttl.as_ref().map(|ttl| self.time("ttl", ttl));
        let lease = options.lease.as_ref().map(|lease| self.time("lease", lease));
        let wait = options.wait.as_ref().map(|wait| self.time("wait", wait));
        let abandoned = match &options.abandoned {
            Some(OnAbandoned::Refuse) => Some(quote_mixed!(.abandoned(__idempotent::OnAbandoned::Refuse))),
            Some(OnAbandoned::Reconcile(_)) => Some(quote_mixed!(.abandoned(__idempotent::OnAbandoned::Reconcile))),
            Some(OnAbandoned::Rerun) | None => None,
        };
        let settle_after = options.settle_after.as_ref().map(|time| self.time("settle_after", time));
        let max_attempts = options.max_attempts.as_ref().map(|attempts| match attempts {
            Attempts::Literal { literal, .. } => quote_mixed!(.max_attempts(#literal)),
            Attempts::Value(expr) => {
                let attempts = self.user(expr);
                quote_mixed!(.max_attempts(#attempts))
            }
        });
        let retry_after = options.retry_after.as_ref().map(|time| self.time("retry_after", time));
        let operation = quote_mixed! {
            __idempotent::operation(#name) #ttl #lease #wait #abandoned #settle_after #max_attempts #retry_after
        };
        match &options.errors {
            OnError::Release => operation,
            OnError::Keep => quote_mixed!(#operation.keep_errors()),
            OnError::KeepIf(keep) => quote_mixed!(__idempotent::keep_errors_if::<#output>(#operation, #keep)),
        }
    }

    fn time(&self, setter: &str, time: &Time) -> TokenStream {
        let setter = Ident::new(setter, Span::mixed_site());
        let time = match time {
            Time::Literal { milliseconds, .. } => quote_mixed!(::core::time::Duration::from_millis(#milliseconds)),
            Time::Value(expr) => self.user(expr),
        };
        quote_mixed!(.#setter(#time))
    }

    /// The user's expression, in which `self` is called what `#[async_trait]` calls it in the body.
    pub(super) fn user(&self, expr: impl ToTokens) -> TokenStream {
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
            TemplatePiece::Text(text) => quote_mixed!(__idempotent::literal(__idempotent_key, #text)),
            TemplatePiece::Hole(ident) => {
                let value = located(quote_mixed!(&#ident), literal.span());
                quote_mixed!(__idempotent::hole(__idempotent_key, #value))
            }
        };
        code.extend(if code.is_empty() { write } else { quote_mixed!(?; #write) });
    }
    quote_mixed!(|__idempotent_key| { #code })
}

//! Writes the code. The plan is complete: nothing is decided here.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::Path;

use self::tokens::{allow_underscore, braced, inner_block, last_word, located, split_inner_attributes};
use crate::{
    args::{OnAbandoned, Options},
    function::{Boxed, Function, mentions},
    types,
    validate::{KeyPlan, Plan, TemplatePiece},
};

/// `quote!` whose names are the macro's own: a local or an import of the user can neither capture them nor be captured.
macro_rules! quote_mixed {
    ($($tokens:tt)*) => { quote_spanned!(Span::mixed_site()=> $($tokens)*) };
}

mod call;
mod tokens;

struct Generator<'a> {
    options: &'a Options,
    function: &'a Function,
    plan: &'a Plan<'a>,
    /// The type that the body returns.
    output: TokenStream,
    /// `::idempotent_runtime`
    krate: TokenStream,
}

/// Replaces the body; everything before it stays as written.
///
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
///         let order_id = order_id;
///         let amount = amount;
///         {
///             call = {
///                 static FUNCTION: runtime::Function = …;
///                 let mut arguments = runtime::arguments(&FUNCTION, type_name_of_val(&|| {}), None, 2);
///                 runtime::argument(&mut arguments, "amount", &amount);
///                 runtime::argument(&mut arguments, "order_id", &order_id);
///                 runtime::call(runtime::operation("module::charge").ttl(…), arguments, &order_id)
///             };
///         }
///         Some(async move {
///             let _ = &order_id;
///             let _ = &amount;
///             if let Some(never) = None::<Result<Receipt, Error>> { return never; }
///             BODY
///         })
///     });
///     runtime::run(call, body).await
/// }
/// ```
pub(crate) fn generate(options: &Options, function: &Function, plan: &Plan<'_>) -> TokenStream {
    let (Some(body), Some(output)) = (&function.body, function.output()) else { return TokenStream::new() };
    let krate = options.krate.as_ref().map_or_else(|| quote_mixed!(::idempotent_runtime), ToTokens::to_token_stream);
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
            quote_mixed!(#before #pin(#keywords #block))
        }
    };
    let mut item = function.head.clone();
    item.extend([TokenTree::from(braced(code, body.span()))]);
    item
}

impl Generator<'_> {
    fn run(&self, body: &Group) -> TokenStream {
        match &self.options.transaction {
            Some(transaction) => self.run_in_transaction(transaction, body),
            None if self.options.detach => self.run_detached(body),
            None => self.run_in_place(body),
        }
    }

    /// Runs the body in the caller's future.
    ///
    /// Input: `{ BODY }`. Output:
    ///
    /// ```text
    /// use ::idempotent_runtime::__private as runtime;
    /// let call;
    /// let body = pin!({
    ///     let order_id = order_id;
    ///     { call = CALL; }
    ///     Some(async move { let _ = &order_id; HINT BODY })
    /// });
    /// runtime::run(call, body).await
    /// ```
    fn run_in_place(&self, body: &Group) -> TokenStream {
        let (krate, rebound, call, body) = (&self.krate, self.rebound(), self.assign_call(), self.body(body));
        let run = self.at_output(quote_mixed!(__idempotent::run(__idempotent_call, __idempotent_body).await));
        quote_mixed! {
            use #krate::__private as __idempotent;
            let __idempotent_call;
            let __idempotent_body = ::core::pin::pin!({
                #rebound
                #call
                ::core::option::Option::Some(#body)
            });
            #run
        }
    }

    /// Runs the body on a task of its own, which takes it by value.
    ///
    /// Input: `{ BODY }`. Output:
    ///
    /// ```text
    /// use ::idempotent_runtime::__private as runtime;
    /// let call;
    /// let body = {
    ///     let order_id = order_id;
    ///     { call = CALL; }
    ///     Box::pin(async move { let _ = &order_id; HINT BODY })
    /// };
    /// runtime::run_detached(call, body).await
    /// ```
    fn run_detached(&self, body: &Group) -> TokenStream {
        let (krate, rebound, call, body) = (&self.krate, self.rebound(), self.assign_call(), self.body(body));
        let run = self.at_output(quote_mixed!(__idempotent::run_detached(__idempotent_call, __idempotent_body).await));
        quote_mixed! {
            use #krate::__private as __idempotent;
            let __idempotent_call;
            let __idempotent_body = {
                #rebound
                #call
                // Boxed where it is made: moved by value, a large body would overflow the stack.
                ::std::boxed::Box::pin(#body)
            };
            #run
        }
    }

    /// Runs the body in the caller's transaction. The runtime borrows the transaction before and after the body, and lends it
    /// to the body meanwhile.
    ///
    /// Input, with `transaction = tx`: `{ BODY }`. Output:
    ///
    /// ```text
    /// use ::idempotent_runtime::__private as runtime;
    /// let call;
    /// { call = CALL; }
    /// let transaction = runtime::transaction(&mut *tx);
    /// match runtime::begin(call, transaction).await {
    ///     Break(answer) => answer,
    ///     Continue(mut begun) => {
    ///         let output = {
    ///             let (around, tx) = begun.body();
    ///             let order_id = order_id;
    ///             let body = pin!(Some(async move { let _ = &order_id; HINT BODY }));
    ///             let output = around.run(body).await;
    ///             output
    ///         };
    ///         begun.finish(output).await
    ///     }
    /// }
    /// ```
    fn run_in_transaction(&self, transaction: &Ident, body: &Group) -> TokenStream {
        let (krate, rebound, call, body) = (&self.krate, self.rebound(), self.assign_call(), self.body(body));
        let begin =
            self.at_output(quote_mixed!(__idempotent::begin(__idempotent_call, __idempotent_transaction).await));
        let ty = self.function.type_of(transaction).map_or_else(|| transaction.span(), last_word);
        let borrowed = located(quote_mixed!(__idempotent::transaction(&mut *#transaction)), ty);
        // Keep the user's `mut`, so that `unused_mut` still fires.
        let is_mutable = self.function.is_mutable(transaction);
        let mutable = is_mutable.then(|| quote_spanned!(transaction.span()=> mut));
        let allow = starts_with_underscore(transaction).then(allow_underscore);
        let used = is_mutable.then(|| quote_mixed!(#allow let _ = &mut #transaction;));
        quote_mixed! {
            use #krate::__private as __idempotent;
            let __idempotent_call;
            #call
            #used
            #allow
            let __idempotent_transaction = #borrowed;
            match #begin {
                ::core::ops::ControlFlow::Break(__idempotent_answer) => __idempotent_answer,
                ::core::ops::ControlFlow::Continue(mut __idempotent_begun) => {
                    let __idempotent_output = {
                        let (__idempotent_around, #mutable #transaction) = __idempotent_begun.body();
                        #rebound
                        let __idempotent_body = ::core::pin::pin!(::core::option::Option::Some(#body));
                        let __idempotent_output = __idempotent_around.run(__idempotent_body).await;
                        __idempotent_output
                    };
                    __idempotent_begun.finish(__idempotent_output).await
                }
            }
        }
    }

    /// `async move { let _ = &order_id; HINT RECONCILE BODY }`, where HINT is
    /// `if let Some(never) = None::<OUTPUT> { return never; }`.
    fn body(&self, body: &Group) -> TokenStream {
        let (output, held, reconcile, body) = (&self.output, self.held(), self.reconcile(), inner_block(body));
        quote_mixed! {
            async move {
                #held
                // Tells the compiler the type of the block. `async` blocks have no return type of their own, and without this
                // a `?` or `Ok(…)` in the body would have nothing to infer its error type from.
                if let ::core::option::Option::Some(__idempotent_never) = ::core::option::Option::None::<#output> {
                    return __idempotent_never;
                }
                #reconcile
                #body
            }
        }
    }

    /// Asks before the body what became of a run that vanished.
    ///
    /// Input: `abandoned = reconcile(find_charge)`. Output:
    ///
    /// ```text
    /// if let Some(run) = runtime::to_reconcile() {
    ///     let found = {
    ///         let order_id = runtime::given(&order_id);
    ///         find_charge(&run, order_id).await
    ///     };
    ///     if let Some(answer) = runtime::reconciled::<OUTPUT>(&run, found) { return answer; }
    /// }
    /// ```
    fn reconcile(&self) -> Option<TokenStream> {
        let Some(OnAbandoned::Reconcile(path)) = &self.options.abandoned else { return None };
        let at_path = |tokens| located(tokens, last_segment(path));
        let receiver = self.function.signature.receiver().map(|receiver| {
            let this = self.user(quote!(self));
            let is_borrowed = !types::references(receiver).is_empty();
            if is_borrowed { quote_mixed!(#this,) } else { quote_mixed!(__idempotent::given(&#this),) }
        });
        let (mut given, mut names) = (TokenStream::new(), TokenStream::new());
        for (ident, _) in self.function.names() {
            // What is borrowed to be changed is lent; the body gets it back.
            let is_lent = self.function.type_of(ident).is_some_and(|ty| types::mutable_reference(ty).is_some());
            let value = if is_lent { quote_mixed!(&mut *#ident) } else { quote_mixed!(__idempotent::given(&#ident)) };
            let value = at_path(value);
            given.extend(quote_mixed!(let #ident = #value;));
            names.extend(quote_mixed!(#ident,));
        }
        let (allow, output) = (allow_underscore(), &self.output);
        // A wrong type is underlined at the argument, the rest at the path.
        let mut arguments = Group::new(Delimiter::Parenthesis, quote_mixed!(#receiver &__idempotent_run, #names));
        arguments.set_span(Span::mixed_site().located_at(last_segment(path)));
        let called = at_path(quote_mixed!(.await));
        let found = at_path(quote_mixed!(__idempotent_found));
        let answer = quote_mixed!(__idempotent::reconciled::<#output>(&__idempotent_run, #found));
        Some(quote_mixed! {
            if let ::core::option::Option::Some(__idempotent_run) = __idempotent::to_reconcile() {
                #allow
                let __idempotent_found = {
                    #given
                    #path #arguments #called
                };
                if let ::core::option::Option::Some(__idempotent_answer) = #answer {
                    return __idempotent_answer;
                }
            }
        })
    }

    /// `let order_id = order_id;` for each argument that is moved into a block.
    ///
    /// The call borrows its arguments. The compiler reserves a place in the outer future for every borrowed local until the
    /// local's scope ends, even after the local was moved into the body: the future would hold each argument twice. The rebound
    /// local ends with its block.
    fn rebound(&self) -> TokenStream {
        let mut rebound = TokenStream::new();
        for (ident, cfg) in self.function.names().filter(|(ident, _)| self.is_rebound(ident)) {
            rebound.extend(quote_mixed!(#(#cfg)* let #ident = #ident;));
        }
        rebound
    }

    /// `let _ = &order_id;` for each argument that the body has to capture even if it never names it, so that the argument is
    /// dropped when the body ends, as in a plain function.
    fn held(&self) -> TokenStream {
        let mut held = TokenStream::new();
        for (ident, cfg) in self.function.names() {
            // A detached body outlives the function, and so has to own every argument, hashed or not.
            if self.options.detach || self.is_rebound(ident) {
                let allow = allow_underscore();
                held.extend(quote_mixed!(#(#cfg)* #allow let _ = &#ident;));
            }
        }
        held
    }

    /// True if the call borrows the argument, and rebinding it causes no lint: `let x = x` would drop a `mut`, and would use
    /// a name with a leading underscore.
    fn is_rebound(&self, argument: &Ident) -> bool {
        self.call_borrows(argument) && !self.function.is_mutable(argument) && !starts_with_underscore(argument)
    }

    /// True if the hash or the key reads the argument.
    fn call_borrows(&self, argument: &Ident) -> bool {
        let in_key = match &self.plan.key {
            KeyPlan::Hash => false,
            KeyPlan::Value(expr) => mentions(expr.to_token_stream(), &argument.to_string()),
            KeyPlan::Template(_, pieces) => {
                pieces.iter().any(|piece| matches!(piece, TemplatePiece::Hole(hole) if *hole == argument))
            }
        };
        in_key || self.plan.hashed.iter().any(|hashed| hashed.ident == argument)
    }

    /// `{ call = CALL; }`
    fn assign_call(&self) -> TokenStream {
        let call = self.call();
        let allow = self.call_names_underscore().then(allow_underscore);
        quote_mixed!(#allow { __idempotent_call = #call; })
    }

    /// True if the hash or the template names an argument with a leading underscore.
    fn call_names_underscore(&self) -> bool {
        let pieces = match &self.plan.key {
            KeyPlan::Template(_, pieces) => pieces.as_slice(),
            KeyPlan::Hash | KeyPlan::Value(_) => &[],
        };
        let holes = pieces.iter().filter_map(|piece| match piece {
            TemplatePiece::Hole(ident) => Some(*ident),
            TemplatePiece::Text(_) => None,
        });
        let hashed = self.plan.hashed.iter().map(|argument| argument.ident);
        hashed.chain(holes).any(starts_with_underscore)
    }

    /// Underlines a call into the runtime at the return type, where its bounds are to be met. One token of the type is
    /// enough, and more would be too many: the compiler reports each bound once for each place.
    fn at_output(&self, call: TokenStream) -> TokenStream {
        located(call, self.function.output().map_or_else(Span::mixed_site, last_word))
    }
}

fn last_segment(path: &Path) -> Span {
    path.segments.last().map_or_else(Span::mixed_site, |last| last.ident.span())
}

fn starts_with_underscore(ident: &Ident) -> bool {
    ident.to_string().starts_with('_')
}

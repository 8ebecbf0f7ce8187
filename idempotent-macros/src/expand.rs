//! Parse, validate, and generate; or give the function back as it was, with all that is wrong.

use proc_macro2::TokenStream;
use quote::quote;

use crate::{args::Options, codegen, diagnostics::Errors, function::Function, validate};

/// `file` is the name of the source file, to suggest a name from.
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
            // As it was, so that nothing else breaks; what only the attribute would have used is not the mistake.
            quote!(#[allow(unused_variables, unused_mut)] #item #errors)
        }
    }
}

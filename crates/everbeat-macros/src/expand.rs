//! The generated code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Error;
use syn::ext::IdentExt;
use syn::spanned::Spanned;

use crate::function::Function;
use crate::options::Options;

/// The item, untouched, then its timer, then the errors.
pub(crate) fn every(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    let (options, wrong_options) = Options::parse(arguments);
    let (timer, wrong_item) = match syn::parse2::<Function>(item.clone()) {
        Ok(function) => (timer(&function, &options), None),
        Err(error) => (quote!(), Some(error)),
    };
    let errors = wrong_options.into_iter().chain(wrong_item).map(Error::into_compile_error);
    quote!(#item #timer #(#errors)*)
}

/// A type that cannot be constructed: it takes the name among the types and leaves that among the values
/// to the function.
fn timer(function: &Function, options: &Options) -> TokenStream {
    let Function { conditions, marks, visibility, signature } = function;
    let name = &signature.ident;
    let summary = format!("The timer of the function `{name}`: each call makes one of its own.");
    let constructors = constructors(function, options);
    quote! {
        #(#conditions)*
        #(#marks)*
        #[doc = #summary]
        #[allow(non_camel_case_types)]
        #visibility enum #name {}

        #(#conditions)*
        #[allow(deprecated)]
        impl #name { #constructors }
    }
}

fn constructors(function: &Function, options: &Options) -> TokenStream {
    let Function { visibility, signature, .. } = function;
    let Options { everbeat, period, calls, .. } = options;
    let (target, result) = (target(function, everbeat), result(function, everbeat));
    let name = signature.ident.unraw().to_string();
    quote! {
        /// What the attribute describes, for options that only code can give.
        #visibility fn builder() -> #everbeat::Builder {
            #everbeat::Timer::every(#period)
                .name(::core::concat!(::core::module_path!(), "::", #name))
                #calls
        }

        /// A timer, to be started later.
        ///
        /// # Errors
        /// An expression in the attribute made a bad schedule.
        #visibility fn timer() -> #result {
            Self::builder().build(#target)
        }

        /// A timer, started on the tokio runtime that this is called in.
        ///
        /// # Errors
        /// There is no runtime here, or an expression in the attribute made a bad schedule.
        #visibility fn start() -> #result {
            let timer = Self::timer()?;
            timer.start()?;
            ::core::result::Result::Ok(timer)
        }
    }
}

/// What the timer runs. A sync function is called in a closure that returns a plain `Result`, so that a
/// value which is an iterator, too, is still taken for a value.
fn target(function: &Function, everbeat: &TokenStream) -> TokenStream {
    let name = &function.signature.ident;
    let parameter = function.parameter().map(|of_type| {
        let tick = Ident::new("tick", located_at(of_type));
        (quote!(#tick: #everbeat::Tick), tick)
    });
    let (parameter, argument) = parameter.unzip();
    let span = located_at(name);
    if function.signature.asyncness.is_some() {
        quote_spanned!(span=> |#parameter| #name(#argument))
    } else {
        quote_spanned!(span=> |#parameter| #everbeat::Outcome::into_result(#name(#argument)))
    }
}

/// What the constructors return.
fn result(function: &Function, everbeat: &TokenStream) -> TokenStream {
    let Some(returned) = function.returns() else {
        return quote!(::core::result::Result<#everbeat::Timer<()>, #everbeat::Error>);
    };
    quote_spanned! {located_at(returned)=>
        ::core::result::Result<#everbeat::Timer<<#returned as #everbeat::Outcome>::Value>, #everbeat::Error>
    }
}

/// Generated code that errors show at this place in the user's code.
fn located_at(place: &impl Spanned) -> Span {
    Span::mixed_site().located_at(place.span())
}

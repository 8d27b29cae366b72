//! The arguments of the attribute: which there are, and what they become.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{End, Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, Result, Token};

use crate::value::Takes;

/// Every option but the period, which has no name. Each is a method of the builder, except for `crate`.
const KNOWN: [(&str, Takes); 16] = [
    ("fixed_rate", Takes::Nothing),
    ("fixed_delay", Takes::Nothing),
    ("initial_delay", Takes::Duration),
    ("jitter", Takes::Fraction),
    ("jitter_seed", Takes::Number),
    ("missed", Takes::Policy("everbeat::Missed::Skip")),
    ("max_lateness", Takes::Duration),
    ("keep_phase", Takes::Nothing),
    ("max_runs", Takes::Count),
    ("run_for", Takes::Duration),
    ("run_timeout", Takes::Limit),
    ("on_error", Takes::Policy("everbeat::OnError::Continue")),
    ("blocked_after", Takes::Duration),
    ("name", Takes::Text),
    ("histograms", Takes::Switch),
    ("crate", Takes::Crate),
];

/// What the attribute was given.
pub(crate) struct Options {
    /// The path of the crate everbeat.
    pub(crate) everbeat: TokenStream,
    /// The period as an expression.
    pub(crate) period: TokenStream,
    /// The other options as calls on a builder, in the order in which they were given.
    pub(crate) calls: TokenStream,
    has_period: bool,
    seen: Vec<Ident>,
}

impl Options {
    /// The options that could be read, and the errors of those that could not. Going on without the
    /// latter, code that uses the timer adds no errors of its own.
    pub(crate) fn parse(arguments: TokenStream) -> (Self, Option<Error>) {
        let mut options = Self::none();
        let errors = match Punctuated::<Argument, Token![,]>::parse_terminated.parse2(arguments) {
            Ok(arguments) => options.take_all(arguments),
            Err(error) => vec![error],
        };
        let errors = errors.into_iter().reduce(|mut errors, error| {
            errors.combine(error);
            errors
        });
        (options, errors)
    }

    fn none() -> Self {
        Self {
            everbeat: quote!(::everbeat),
            period: quote!(::core::time::Duration::ZERO),
            calls: quote!(),
            has_period: false,
            seen: vec![],
        }
    }

    fn take_all(&mut self, arguments: impl IntoIterator<Item = Argument>) -> Vec<Error> {
        let results = arguments.into_iter().map(|argument| match argument {
            Argument::Period(value) => self.take_period(&value),
            Argument::Option(key, value) => self.take_option(&key, value.as_ref()),
        });
        let mut errors: Vec<Error> = results.filter_map(Result::err).collect();
        if !self.has_period {
            let missing = "the period is missing: it stands by itself, as in `every(\"5s\")`";
            errors.push(Error::new(Span::call_site(), missing));
        }
        errors
    }

    fn take_period(&mut self, value: &Expr) -> Result<()> {
        if std::mem::replace(&mut self.has_period, true) {
            return Err(Error::new_spanned(value, "the period is given twice"));
        }
        self.period = Takes::Duration.read("the period", value)?;
        Ok(())
    }

    fn take_option(&mut self, key: &Ident, value: Option<&Expr>) -> Result<()> {
        let takes = find(key)?;
        self.check_new(key)?;
        self.seen.push(key.clone());
        let argument = match value {
            Some(value) => takes.read(format_args!("`{key}`"), value)?,
            None if takes == Takes::Nothing => quote!(),
            None => {
                let message = format!("`{key}` needs a value, which must be {}", takes.allowed());
                return Err(Error::new(key.span(), message));
            }
        };
        if takes == Takes::Crate {
            self.everbeat = argument;
        } else {
            self.calls.extend(quote!(.#key(#argument)));
        }
        Ok(())
    }

    /// Refuses what does not go with an option before it.
    fn check_new(&self, key: &Ident) -> Result<()> {
        let is_mode = |key: &Ident| key == "fixed_rate" || key == "fixed_delay";
        let message = if self.seen.contains(key) {
            format!("`{key}` is given twice")
        } else if let Some(mode) = self.seen.iter().find(|seen| is_mode(seen) && is_mode(key)) {
            format!("`{key}` contradicts `{mode}`: a timer has one mode")
        } else {
            return Ok(());
        };
        Err(Error::new(key.span(), message))
    }
}

fn find(key: &Ident) -> Result<Takes> {
    KNOWN.iter().find(|(name, _)| key == name).map(|(_, takes)| *takes).ok_or_else(|| unknown(key))
}

fn unknown(key: &Ident) -> Error {
    let known = KNOWN.map(|(name, _)| name).join(", ");
    let message = format!(
        "unknown option `{key}`: beside the period, as in `every(\"5s\")`, the options are {known}; for \
         anything else there is the function's `builder()`"
    );
    Error::new(key.span(), message)
}

/// One argument, as it is written.
enum Argument {
    /// `"5s"`
    Period(Expr),
    /// `fixed_rate` or `jitter = 0.1`
    Option(Ident, Option<Expr>),
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let is_word = input.peek(Ident::peek_any);
        if is_word && input.peek2(Token![=]) {
            let key = input.call(Ident::parse_any)?;
            input.parse::<Token![=]>()?;
            return Ok(Self::Option(key, Some(input.parse()?)));
        }
        if is_word && (input.peek2(Token![,]) || input.peek2(End)) {
            return Ok(Self::Option(input.call(Ident::parse_any)?, None));
        }
        Ok(Self::Period(input.parse()?))
    }
}

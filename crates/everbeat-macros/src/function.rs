//! The item under the attribute: what the generated code needs to know of it, and what it may not be.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::token::Brace;
use syn::{Attribute, Error, FnArg, Meta, Path, Result, ReturnType, Safety, Signature, Type, Visibility};

/// A function that a timer can run.
pub(crate) struct Function {
    /// Its `#[cfg]`s, which decide about its timer, too.
    pub(crate) conditions: Vec<Attribute>,
    /// Other attributes that hold for its timer, too: deprecation, instructions for rustdoc.
    pub(crate) marks: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
}

impl Function {
    /// The type that it is declared to return.
    pub(crate) fn returns(&self) -> Option<&Type> {
        match &self.signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, returned) => Some(returned),
        }
    }

    /// The type of its parameter.
    pub(crate) fn parameter(&self) -> Option<&Type> {
        match self.signature.inputs.first()? {
            FnArg::Typed(parameter) => Some(&parameter.ty),
            FnArg::Receiver(_) => None,
        }
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let start = input.span();
        let signature = input.parse::<Signature>().map_err(|_| Error::new(start, NO_FUNCTION))?;
        if !input.peek(Brace) {
            return Err(Error::new(signature.ident.span(), NO_BODY));
        }
        input.parse::<TokenStream>()?; // the body is passed on as it is
        check_alone(&attributes)?;
        check_kind(&signature)?;
        check_parameters(&signature)?;
        check_types(&signature)?;
        let (conditions, others): (Vec<_>, Vec<_>) =
            attributes.into_iter().partition(|attribute| attribute.path().is_ident("cfg"));
        let marks = others.into_iter().filter(is_mark).collect();
        Ok(Self { conditions, marks, visibility, signature })
    }
}

const NO_FUNCTION: &str = "`every` goes on a function: an `fn` or an `async fn`";
const NO_BODY: &str = "`every` needs a function with a body";
const TWICE: &str = "`every` is given twice: a function has one timer";
const METHOD: &str = "`every` goes on a free function: a timer has no `self` to call a method on";
const GENERIC: &str = "`every` needs a function without generic parameters: a timer has nothing to put in";
const UNSAFE: &str =
    "`every` needs a safe function: a timer cannot keep the promises that an unsafe one asks for";
const PARAMETERS: &str = "`every` needs a function with no parameter or with one, an `everbeat::Tick`";
const OPAQUE: &str = "`every` needs the name of the returned type, without `impl`; a function that returns a \
                      future is an `async fn`";

fn check_alone(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().map(Attribute::path).find(is_every) {
        Some(second) => Err(Error::new_spanned(second, TWICE)),
        None => Ok(()),
    }
}

fn is_every(path: &&Path) -> bool {
    path.is_ident("every") || path.segments[0].ident == "everbeat"
}

fn check_kind(signature: &Signature) -> Result<()> {
    if let Some(receiver) = signature.receiver() {
        return Err(Error::new_spanned(receiver, METHOD));
    }
    if let Some(parameter) = signature.generics.params.first() {
        return Err(Error::new_spanned(parameter, GENERIC));
    }
    if let Safety::Unsafe(token) = signature.safety {
        return Err(Error::new(token.span, UNSAFE));
    }
    Ok(())
}

fn check_parameters(signature: &Signature) -> Result<()> {
    if let Some(second) = signature.inputs.iter().nth(1) {
        return Err(Error::new_spanned(second, PARAMETERS));
    }
    if let Some(variadic) = &signature.variadic {
        return Err(Error::new_spanned(variadic, PARAMETERS));
    }
    Ok(())
}

/// Refuses types that have no name.
fn check_types(signature: &Signature) -> Result<()> {
    if let Some(span) = find_impl(signature.inputs.to_token_stream()) {
        return Err(Error::new(span, GENERIC));
    }
    if let Some(span) = find_impl(signature.output.to_token_stream()) {
        return Err(Error::new(span, OPAQUE));
    }
    Ok(())
}

fn find_impl(tokens: TokenStream) -> Option<Span> {
    tokens.into_iter().find_map(|tree| match tree {
        TokenTree::Ident(word) if word == "impl" => Some(word.span()),
        TokenTree::Group(group) => find_impl(group.stream()),
        _ => None,
    })
}

/// Whether an attribute holds for the timer, too; the text of the documentation does not.
fn is_mark(attribute: &Attribute) -> bool {
    let is_text = matches!(attribute.meta, Meta::NameValue(_));
    attribute.path().is_ident("deprecated") || (attribute.path().is_ident("doc") && !is_text)
}

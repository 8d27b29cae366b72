//! What the value of an option may be, and what it becomes in code.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use humantime::{DurationError, parse_duration};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Error, Expr, ExprLit, Lit, Path, Result};

/// What an option takes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Takes {
    /// No value at all.
    Nothing,
    /// A duration.
    Duration,
    /// A duration, but not zero.
    Limit,
    /// From 0 to 1.
    Fraction,
    /// A whole number.
    Number,
    /// A whole number, but not zero.
    Count,
    /// A string.
    Text,
    /// A boolean.
    Switch,
    /// An expression, not a literal; its type is left to the compiler. This is an example.
    Policy(&'static str),
    /// The path of a crate.
    Crate,
}

impl Takes {
    /// Such a value as an expression for the generated code.
    pub(crate) fn read(self, option: impl Display, value: &Expr) -> Result<TokenStream> {
        self.parse(value).ok_or_else(|| self.refuse(option, value))
    }

    /// In words, as it follows "must be".
    pub(crate) fn allowed(self) -> String {
        match self {
            Self::Nothing => "given without a value".into(),
            Self::Duration => r#"a duration in quotes, such as "5s", "100ms" or "1m 30s""#.into(),
            Self::Limit => r#"a duration in quotes, longer than zero, such as "5s" or "1m 30s""#.into(),
            Self::Fraction => "a fraction of the period from 0 to 1".into(),
            Self::Number => "a whole number (u64)".into(),
            Self::Count => "a whole number (u64), at least 1".into(),
            Self::Text => "a text in quotes".into(),
            Self::Switch => "`true` or `false`".into(),
            Self::Policy(example) => format!("a policy, such as `{example}`"),
            Self::Crate => "the path of the crate everbeat, such as `my_lib::everbeat`".into(),
        }
    }

    fn parse(self, value: &Expr) -> Option<TokenStream> {
        match self {
            Self::Nothing => None,
            Self::Duration => duration(value).map(constant),
            Self::Limit => duration(value).filter(|limit| !limit.is_zero()).map(constant),
            Self::Fraction => number::<f64>(value, "f64").filter(|n| (0.0..=1.0).contains(n)).map(tokens),
            Self::Number => number::<u64>(value, "u64").map(tokens),
            Self::Count => number::<u64>(value, "u64").filter(|&n| n > 0).map(tokens),
            Self::Text => matches!(literal(value)?, Lit::Str(_)).then(|| tokens(value)),
            Self::Switch => matches!(literal(value)?, Lit::Bool(_)).then(|| tokens(value)),
            Self::Policy(_) => literal(value).is_none().then(|| tokens(value)),
            Self::Crate => path_of(value).map(tokens),
        }
    }

    fn refuse(self, option: impl Display, value: &Expr) -> Error {
        let (allowed, given) = (self.allowed(), value.to_token_stream());
        let reason = self.reason(value).map(|reason| format!(": {reason}")).unwrap_or_default();
        Error::new_spanned(value, format!("{option} must be {allowed}, got `{given}`{reason}"))
    }

    /// What is wrong with the text of a duration.
    fn reason(self, value: &Expr) -> Option<DurationError> {
        match self {
            Self::Duration | Self::Limit => parse_duration(&text(value)?).err(),
            _ => None,
        }
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        // A value that came through a `macro_rules!` is wrapped in an invisible group.
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

fn text(value: &Expr) -> Option<String> {
    match literal(value)? {
        Lit::Str(text) => Some(text.value()),
        _ => None,
    }
}

fn duration(value: &Expr) -> Option<Duration> {
    parse_duration(&text(value)?).ok()
}

fn number<N: FromStr>(value: &Expr, kind: &str) -> Option<N> {
    let (digits, suffix) = match literal(value)? {
        Lit::Int(int) => (int.base10_digits(), int.suffix()),
        Lit::Float(float) => (float.base10_digits(), float.suffix()),
        _ => return None,
    };
    (suffix.is_empty() || suffix == kind).then(|| digits.parse().ok())?
}

fn path_of(value: &Expr) -> Option<&Path> {
    match value {
        Expr::Path(path) if path.qself.is_none() => Some(&path.path),
        Expr::Group(group) => path_of(&group.expr),
        _ => None,
    }
}

fn constant(duration: Duration) -> TokenStream {
    let (secs, nanos) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#secs, #nanos))
}

fn tokens(value: impl ToTokens) -> TokenStream {
    value.into_token_stream()
}

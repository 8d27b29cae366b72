//! What a timer is called.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// The name of a timer: the one it was given, else the place in the source where it was built.
#[derive(Clone)]
pub struct Name(Kind);

#[derive(Clone)]
enum Kind {
    Given(Arc<str>),
    BuiltAt(&'static Location<'static>),
}

impl Name {
    pub(crate) fn given(name: &str) -> Self {
        Self(Kind::Given(name.into()))
    }

    pub(crate) fn built_at(location: &'static Location<'static>) -> Self {
        Self(Kind::BuiltAt(location))
    }

    /// The name that was given, if one was.
    #[must_use]
    pub fn as_given(&self) -> Option<&str> {
        match &self.0 {
            Kind::Given(name) => Some(name),
            Kind::BuiltAt(_) => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Given(name) => f.write_str(name),
            Kind::BuiltAt(location) => write!(f, "{}:{}", location.file(), location.line()),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        match &self.0 {
            Kind::Given(name) => **name == *other,
            Kind::BuiltAt(_) => *self.to_string() == *other,
        }
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// The same text, or the same place.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Given(name), Kind::Given(other)) => name == other,
            (Kind::BuiltAt(place), Kind::BuiltAt(other)) => place == other,
            _ => false,
        }
    }
}

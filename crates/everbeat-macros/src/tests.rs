//! What the attribute makes of its input, and what it says to bad input.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, File, Item};

use crate::expand;
use crate::function::Function;
use crate::options::Options;

const FUNCTION: &str = "async fn refresh() -> io::Result<u64> { load().await }";

fn tokens(code: &str) -> TokenStream {
    code.parse().expect("the test is made of tokens")
}

fn expand(arguments: &str, item: &str) -> String {
    expand::every(tokens(arguments), &tokens(item)).to_string()
}

/// The calls on the builder that options become.
fn calls(arguments: &str) -> String {
    let (options, errors) = Options::parse(tokens(arguments));
    assert!(errors.is_none(), "{arguments}: {errors:?}");
    options.calls.to_string()
}

/// The words that errors point to, and what they say.
fn refusals(errors: Option<Error>) -> Vec<(String, String)> {
    let errors = errors.into_iter().flatten();
    errors.map(|error| (error.span().source_text().unwrap_or_default(), error.to_string())).collect()
}

#[track_caller]
fn check_refused(arguments: &str, expected: &[(&str, &str)]) {
    let refusals = refusals(Options::parse(tokens(arguments)).1);
    let refusals: Vec<(&str, &str)> = refusals.iter().map(|(word, text)| (&**word, &**text)).collect();
    assert_eq!(refusals, expected);
}

#[track_caller]
fn check_function_refused(item: &str, word: &str, expected: &str) {
    let refusals = refusals(syn::parse_str::<Function>(item).err());
    assert_eq!(refusals, [(word.to_owned(), expected.to_owned())]);
}

/// The generated code must be syntax, whatever the input was.
fn items(arguments: &str, item: &str) -> Vec<Item> {
    syn::parse2::<File>(expand::every(tokens(arguments), &tokens(item))).expect("it is a list of items").items
}

#[test]
fn a_function_gets_a_timer() {
    let expected = quote! {
        async fn refresh() -> io::Result<u64> { load().await }

        #[doc = "The timer of the function `refresh`: each call makes one of its own."]
        #[allow(non_camel_case_types)]
        enum refresh {}

        #[allow(deprecated)]
        impl refresh {
            /// What the attribute describes, for options that only code can give.
            fn builder() -> ::everbeat::Builder {
                ::everbeat::Timer::every(::core::time::Duration::new(5u64, 0u32))
                    .name(::core::concat!(::core::module_path!(), "::", "refresh"))
                    .fixed_rate()
                    .jitter(0.1f64)
            }

            /// A timer, to be started later.
            ///
            /// # Errors
            /// An expression in the attribute made a bad schedule.
            fn timer() -> ::core::result::Result<
                ::everbeat::Timer<<io::Result<u64> as ::everbeat::Outcome>::Value>,
                ::everbeat::Error
            > {
                Self::builder().build(| | refresh())
            }

            /// A timer, started on the tokio runtime that this is called in.
            ///
            /// # Errors
            /// There is no runtime here, or an expression in the attribute made a bad schedule.
            fn start() -> ::core::result::Result<
                ::everbeat::Timer<<io::Result<u64> as ::everbeat::Outcome>::Value>,
                ::everbeat::Error
            > {
                let timer = Self::timer()?;
                timer.start()?;
                ::core::result::Result::Ok(timer)
            }
        }
    };
    assert_eq!(expand(r#""5s", fixed_rate, jitter = 0.1"#, FUNCTION), expected.to_string());
}

#[test]
fn r2_the_target_fits_the_function() {
    let cases = [
        ("async fn f() {}", "| | f()"),
        ("async fn f(t: Tick) {}", "|tick: ::everbeat::Tick| f(tick)"),
        ("fn f() {}", "| | ::everbeat::Outcome::into_result(f())"),
        ("fn f(_: Tick) {}", "|tick: ::everbeat::Tick| ::everbeat::Outcome::into_result(f(tick))"),
    ];
    for (function, target) in cases {
        let code = expand(r#""5s""#, function);
        assert!(code.contains(&format!("build ({})", tokens(target))), "{code}");
    }
}

#[test]
fn what_returns_nothing_delivers_nothing() {
    let code = expand(r#""5s""#, "fn f() {}");
    assert!(code.contains(&quote!(::everbeat::Timer<()>).to_string()), "{code}");
}

#[test]
fn the_visibility_is_that_of_the_function() {
    for visibility in ["", "pub", "pub(crate)", "pub(in crate::jobs)"] {
        let code = expand(r#""5s""#, &format!("{visibility} fn f() {{}}"));
        let prefix = tokens(visibility).to_string();
        for word in ["enum f", "fn builder ()", "fn timer ()", "fn start ()"] {
            assert!(code.contains(&format!("{prefix} {word}")), "{visibility}: {code}");
        }
    }
}

#[test]
fn attributes_stay_with_the_function() {
    let attributes = r#"/** Loads. */ #[inline] #[cfg(unix)] #[deprecated] #[doc(hidden)] #[allow(unused)]"#;
    let item = format!("{attributes} fn f() {{}}");
    let items = items(r#""5s""#, &item);
    let [Item::Fn(function), Item::Enum(named), Item::Impl(constructors)] = &items[..] else {
        panic!("not a function, a type and its functions")
    };
    let names = |attributes: &[syn::Attribute]| -> Vec<String> {
        attributes.iter().map(|attribute| attribute.path().segments[0].ident.to_string()).collect()
    };
    assert_eq!(names(&function.attrs), ["doc", "inline", "cfg", "deprecated", "doc", "allow"]);
    assert_eq!(names(&named.attrs), ["cfg", "deprecated", "doc", "doc", "allow"]);
    assert_eq!(names(&constructors.attrs), ["cfg", "allow"]);
}

#[test]
fn o1_raw_names_are_plain_in_the_timer_s_name() {
    let code = expand(r#""5s""#, "fn r#loop() {}");
    assert!(code.contains("enum r#loop"), "{code}");
    assert!(code.contains(r#""::" , "loop""#), "{code}");
}

#[test]
fn every_option_is_a_call() {
    let durations = r#""1m 30s", fixed_delay, initial_delay = "100ms", max_lateness = "1ns", run_for = "0s""#;
    let expected = quote! {
        .fixed_delay()
        .initial_delay(::core::time::Duration::new(0u64, 100000000u32))
        .max_lateness(::core::time::Duration::new(0u64, 1u32))
        .run_for(::core::time::Duration::new(0u64, 0u32))
    };
    assert_eq!(calls(durations), expected.to_string());
    let others = r#""0s", jitter = 1, jitter_seed = 0xFF, max_runs = 1_000u64, keep_phase, name = "a", histograms = false,
        run_timeout = "3s", blocked_after = "1s", missed = Missed::Burst { max: 2 }, on_error = policy(),"#;
    let expected = quote! {
        .jitter(1f64)
        .jitter_seed(255u64)
        .max_runs(1000u64)
        .keep_phase()
        .name("a")
        .histograms(false)
        .run_timeout(::core::time::Duration::new(3u64, 0u32))
        .blocked_after(::core::time::Duration::new(1u64, 0u32))
        .missed(Missed::Burst { max: 2 })
        .on_error(policy())
    };
    assert_eq!(calls(others), expected.to_string());
}

#[test]
fn s6_a_period_of_zero_is_a_period() {
    let (options, errors) = Options::parse(tokens(r#""0s""#));
    assert!(errors.is_none());
    assert_eq!(options.period.to_string(), quote!(::core::time::Duration::new(0u64, 0u32)).to_string());
}

#[test]
fn the_crate_may_have_another_name() {
    for path in ["crate::lib::beat", "::beat"] {
        let code = expand(&format!(r#""5s", crate = {path}"#), FUNCTION);
        assert!(!code.contains("everbeat"), "{code}");
        assert!(code.contains(&tokens(&format!("{path}::Timer::every")).to_string()), "{code}");
    }
}

#[test]
fn e2_options_are_known_and_given_once() {
    check_refused(
        r#""5s", timeout = "3s""#,
        &[(
            "timeout",
            "unknown option `timeout`: beside the period, as in `every(\"5s\")`, the options are fixed_rate, \
             fixed_delay, initial_delay, jitter, jitter_seed, missed, max_lateness, keep_phase, max_runs, run_for, \
             run_timeout, on_error, blocked_after, name, histograms, crate; for anything else there is the \
             function's `builder()`",
        )],
    );
    check_refused(r#""5s", jitter = 0.1, jitter = 0.2"#, &[("jitter", "`jitter` is given twice")]);
    check_refused(r#""5s", keep_phase, keep_phase"#, &[("keep_phase", "`keep_phase` is given twice")]);
    check_refused(r#""5s", "6s""#, &[(r#""6s""#, "the period is given twice")]);
    check_refused(
        r#""5s", fixed_rate, fixed_delay"#,
        &[("fixed_delay", "`fixed_delay` contradicts `fixed_rate`: a timer has one mode")],
    );
}

#[test]
fn e2_the_period_is_a_duration() {
    let allowed = r#"the period must be a duration in quotes, such as "5s", "100ms" or "1m 30s", got"#;
    for arguments in ["", "fixed_rate", "jitter = 2", "PERIOD"] {
        let (_, last) = refusals(Options::parse(tokens(arguments)).1).pop().unwrap();
        assert_eq!(last, "the period is missing: it stands by itself, as in `every(\"5s\")`");
    }
    check_refused("5s", &[("5s", &format!("{allowed} `5s`"))]);
    check_refused("-5", &[("-5", &format!("{allowed} `- 5`"))]);
    check_refused(
        "Duration::from_secs(5), fixed_rate",
        &[("Duration::from_secs(5)", &format!("{allowed} `Duration :: from_secs (5)`"))],
    );
    check_refused(r#""""#, &[(r#""""#, &format!(r#"{allowed} `""`: value was empty"#))]);
    check_refused(
        r#""5""#,
        &[(r#""5""#, &format!(r#"{allowed} `"5"`: time unit needed, for example 5sec or 5ms"#))],
    );
    check_refused(r#""-5s""#, &[(r#""-5s""#, &format!(r#"{allowed} `"-5s"`: expected number at 0"#))]);
}

#[test]
fn e2_values_are_of_the_right_kind_and_in_range() {
    let cases = [
        ("jitter = 1.5", "1.5", "a fraction of the period from 0 to 1, got `1.5`"),
        ("jitter = -0.1", "-0.1", "a fraction of the period from 0 to 1, got `- 0.1`"),
        ("jitter = 0.1f32", "0.1f32", "a fraction of the period from 0 to 1, got `0.1f32`"),
        ("jitter = \"0.1\"", "\"0.1\"", "a fraction of the period from 0 to 1, got `\"0.1\"`"),
        ("jitter_seed = -1", "-1", "a whole number (u64), got `- 1`"),
        ("max_runs = 0", "0", "a whole number (u64), at least 1, got `0`"),
        ("max_runs = 1.5", "1.5", "a whole number (u64), at least 1, got `1.5`"),
        (
            "max_runs = 18446744073709551616",
            "18446744073709551616",
            "a whole number (u64), at least 1, got `18446744073709551616`",
        ),
        (
            "run_timeout = \"0s\"",
            "\"0s\"",
            "a duration in quotes, longer than zero, such as \"5s\" or \"1m 30s\", got `\"0s\"`",
        ),
        ("initial_delay = 1", "1", "a duration in quotes, such as \"5s\", \"100ms\" or \"1m 30s\", got `1`"),
        ("missed = \"skip\"", "\"skip\"", "a policy, such as `everbeat::Missed::Skip`, got `\"skip\"`"),
        ("on_error = true", "true", "a policy, such as `everbeat::OnError::Continue`, got `true`"),
        ("name = db", "db", "a text in quotes, got `db`"),
        ("histograms = 0", "0", "`true` or `false`, got `0`"),
        ("fixed_rate = true", "true", "given without a value, got `true`"),
        (
            "crate = \"beat\"",
            "\"beat\"",
            "the path of the crate everbeat, such as `my_lib::everbeat`, got `\"beat\"`",
        ),
    ];
    for (option, word, expected) in cases {
        let name = option.split(' ').next().unwrap();
        check_refused(&format!("\"5s\", {option}"), &[(word, &format!("`{name}` must be {expected}"))]);
    }
}

#[test]
fn e2_options_that_need_a_value_say_so() {
    check_refused(
        r#""5s", jitter, name"#,
        &[
            ("jitter", "`jitter` needs a value, which must be a fraction of the period from 0 to 1"),
            ("name", "`name` needs a value, which must be a text in quotes"),
        ],
    );
}

#[test]
fn e2_all_bad_options_are_told_at_once_and_the_timer_still_exists() {
    let items = items(r#""5x", jitter = 2, max_runs = 0, nope"#, FUNCTION);
    let errors = items.iter().filter(|item| matches!(item, Item::Macro(_))).count();
    assert_eq!((items.len(), errors), (7, 4));
}

#[test]
fn e2_a_missing_comma_is_the_only_error() {
    check_refused(r#""5s" fixed_rate"#, &[("fixed_rate", "expected `,`")]);
}

#[test]
fn e2_only_functions_that_a_timer_can_call() {
    let function = "`every` goes on a function: an `fn` or an `async fn`";
    check_function_refused("pub struct Cache;", "struct", function);
    check_function_refused("impl Cache {}", "impl", function);
    check_function_refused("mod cache {}", "mod", function);
    check_function_refused("fn f();", "f", "`every` needs a function with a body");
    let method = "`every` goes on a free function: a timer has no `self` to call a method on";
    check_function_refused("fn f(&mut self) {}", "&mut self", method);
    check_function_refused("async fn f(self: Arc<Self>, tick: Tick) {}", "self: Arc<Self>", method);
    check_function_refused(
        "unsafe fn f() {}",
        "unsafe",
        "`every` needs a safe function: a timer cannot keep the promises that an unsafe one asks for",
    );
    check_function_refused(
        "#[inline] #[everbeat::every(\"6s\")] fn f() {}",
        "everbeat::every",
        "`every` is given twice: a function has one timer",
    );
}

#[test]
fn e2_only_signatures_that_a_timer_can_fill() {
    let generic = "`every` needs a function without generic parameters: a timer has nothing to put in";
    check_function_refused("fn f<'a, T>() {}", "'a", generic);
    check_function_refused("fn f<T: Send>() {}", "T: Send", generic);
    check_function_refused("fn f(tick: Option<impl Sized>) {}", "impl", generic);
    let parameters = "`every` needs a function with no parameter or with one, an `everbeat::Tick`";
    check_function_refused("fn f(a: Tick, b: u8) {}", "b: u8", parameters);
    check_function_refused(
        "fn f() -> Result<impl Future, Error> {}",
        "impl",
        "`every` needs the name of the returned type, without `impl`; a function that returns a future is an \
         `async fn`",
    );
}

#[test]
fn what_is_refused_is_still_there() {
    let items = items(r#""5s""#, "fn f<T>(value: T) -> T { value }");
    assert!(matches!(items[..], [Item::Fn(_), Item::Macro(_)]));
}

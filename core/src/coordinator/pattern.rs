//! Regular expressions that clients send: they match whole names, and what they may take is bounded.

use regex::{Regex, RegexBuilder};

/// Memory that one compiled expression may take. Matching is linear in the name's length whatever the expression.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Compiles an expression that matches whole names only, as Kafka's do; `None` when it is none, or takes too much. How long
/// `text` may be is for the caller to say.
pub fn compile_whole(text: &str) -> Option<Regex> {
    let build = |text: &str| {
        RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build()
    };
    // Alone first: what is only valid within the parentheses is not valid.
    build(text).and_then(|_| build(&format!("^(?:{text})$"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match_and_nonsense_is_refused() {
        let regex = compile_whole("pay.*|x").expect("a regular expression");
        assert!(regex.is_match("payments") && regex.is_match("x"));
        assert!(!regex.is_match("repay") && !regex.is_match("xx"));
        for bad in ["(", "a)(b", "[", "\\w{5000}{5000}"] {
            assert!(compile_whole(bad).is_none(), "{bad}");
        }
    }
}

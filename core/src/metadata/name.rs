//! Which topic names are legal: Kafka's rule, so that a name works through both protocols.

/// The longest topic name, in bytes: Kafka's limit, which leaves room for a suffix within a file name of 255.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Says what is wrong with a topic name, or nothing when it is legal.
///
/// # Errors
/// A sentence that names the rule that was broken and what is allowed.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a topic name must not be empty".into());
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(format!(
            "the topic name is {} bytes long; at most {TOPIC_NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    if name == "." || name == ".." {
        return Err(format!("'{name}' is not a topic name"));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(bad) => Err(format!(
            "the topic name contains {bad:?}; allowed are the letters a-z and A-Z, digits, '.', '_' and '-'"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_and_illegal_names() {
        for good in ["a", "orders.v1", "A_b-9", &"x".repeat(249)] {
            assert!(check_topic_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check_topic_name(bad).is_err(), "{bad}");
        }
    }
}

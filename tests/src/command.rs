//! The `heddle` command line as a user runs it.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::binary;

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit status; `None` after a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub errors: String,
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> simd_json::OwnedValue {
        parse_json(&self.text())
    }

    /// Checks that it worked.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn worked(self) -> Outcome {
        assert_eq!(self.status, Some(0), "it said:\n{}{}", self.text(), self.errors);
        self
    }

    /// Checks that it failed with status 1, named `words` on standard error and printed nothing else.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn failed_naming(self, words: &[&str]) -> Outcome {
        self.ended_naming(1, words)
    }

    /// Checks that it took the command line for wrong (status 2), named `words` on standard error and printed nothing else.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn misused_naming(self, words: &[&str]) -> Outcome {
        self.ended_naming(2, words)
    }

    #[track_caller]
    fn ended_naming(self, status: i32, words: &[&str]) -> Outcome {
        assert_eq!(self.status, Some(status), "it said:\n{}{}", self.text(), self.errors);
        for word in words {
            assert!(self.errors.contains(word), "{word:?} is not in: {}", self.errors);
        }
        assert!(self.output.is_empty(), "results were printed: {}", self.text());
        self
    }
}

/// Parses JSON text.
///
/// # Panics
/// If it is none.
pub fn parse_json(text: &str) -> simd_json::OwnedValue {
    let mut bytes = text.as_bytes().to_vec();
    simd_json::to_owned_value(&mut bytes).unwrap_or_else(|error| panic!("{error} in JSON: {text}"))
}

/// Runs `heddle` against a server, without input.
pub fn heddle(server: &str, arguments: &[&str]) -> Outcome {
    heddle_with_input(server, arguments, &[])
}

/// Runs `heddle` against a server with `input` on standard input.
///
/// # Panics
/// If it does not start.
pub fn heddle_with_input(server: &str, arguments: &[&str], input: &[u8]) -> Outcome {
    run(arguments.iter().map(OsStr::new), Some(server), input)
}

fn run<'a>(arguments: impl Iterator<Item = &'a OsStr>, server: Option<&str>, input: &[u8]) -> Outcome {
    let mut command = Command::new(binary::heddle());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match server {
        Some(server) => command.env("HEDDLE_SERVER", server),
        None => command.env_remove("HEDDLE_SERVER"),
    };
    let mut child = command.spawn().expect("heddle starts");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let output = std::thread::scope(|scope| {
        // A command that fails does not read its input to the end.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("heddle can be waited for")
    });
    Outcome {
        status: output.status.code(),
        output: output.stdout,
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

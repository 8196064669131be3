//! Why a command did not work: what was wrong, where, and what to do.

use crate::config::ConfigError;
use crate::fatal::Fatal;
use heddle_proto::error::ErrorCode;
use std::io;

/// The end of a command that did not work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Whoever read our output went away. Not worth a word.
    #[error("the output was closed")]
    BrokenPipe,
    /// No connection to a broker.
    #[error(
        "cannot reach the broker at {server}: {detail}. Is it running there? Name another with --server HOST:PORT or HEDDLE_SERVER.{hint}"
    )]
    Unreachable {
        /// As given, or as the broker advertised it.
        server: String,
        /// What the system said.
        detail: String,
        /// What else to look at; empty or begins with a space.
        hint: String,
    },
    /// The connection broke.
    #[error("{what}: {detail} ({server}). Is a Heddle broker listening there, and is it still running?")]
    Lost {
        /// Which broker.
        server: String,
        /// What was asked for.
        what: String,
        /// What happened.
        detail: String,
    },
    /// The broker refused.
    #[error("{what}: {message} ({code})")]
    Refused {
        /// What was asked for.
        what: String,
        /// Kafka's name for the reason.
        code: ErrorCode,
        /// The broker's words.
        message: String,
    },
    /// The broker answered something that does not fit, or a limit of the client was met.
    #[error("{what}: {detail}")]
    Client {
        /// What was asked for.
        what: String,
        /// What came of it.
        detail: String,
    },
    /// No such partition.
    #[error("topic `{topic}` has no partition {partition}; it has {count}, numbered from 0")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// As given.
        partition: u32,
        /// How many there are.
        count: usize,
    },
    /// A file or pipe cannot be read.
    #[error("cannot read {name}: {source}")]
    Input {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// One line is longer than a batch can hold.
    #[error(
        "line {line} of {name} is longer than {bytes_max} bytes, the most that fits in a batch; send it in pieces"
    )]
    LineTooLong {
        /// The file.
        name: String,
        /// Counted from 1.
        line: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// A line without the separator.
    #[error("line {line} of {name} has no key: `{separator}` is not in it")]
    NoKey {
        /// The file.
        name: String,
        /// Counted from 1.
        line: u64,
        /// As given.
        separator: String,
    },
    /// Our output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// A record batch from the broker is damaged.
    #[error("partition {partition}, offset {offset}: the batch received is damaged: {detail}")]
    Damaged {
        /// Which partition.
        partition: u32,
        /// First offset of the batch, or where it was expected.
        offset: i64,
        /// What is wrong with it.
        detail: String,
    },
    /// Sending stopped before the end of the input.
    #[error("{cause}; {acknowledged} records were acknowledged before, of {sent} sent")]
    Stopped {
        /// Why.
        cause: Box<CliError>,
        /// Acknowledged records.
        acknowledged: u64,
        /// Records sent or being sent.
        sent: u64,
    },
    /// Nothing to do.
    #[error("{0}")]
    Usage(String),
    /// The machine lets no executor start.
    #[error("{0}; run `heddle doctor`")]
    Executor(String),
    /// A refused configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A check of `doctor` failed; it has said so itself.
    #[error("this machine is not fit for Heddle")]
    Unfit,
    /// The broker could not start or had to stop.
    #[error("{0}")]
    Fatal(Fatal),
}

impl CliError {
    /// Classifies a failed write to standard output.
    pub fn output(error: io::Error) -> CliError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
            _ => CliError::Output(error),
        }
    }

    /// Exit status of the process.
    pub fn status(&self) -> u8 {
        match self {
            CliError::Fatal(reason) => reason.status(),
            CliError::Config(_) => 10,
            CliError::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Prints the error for people, or as one line of JSON, on standard error.
    pub fn report(&self, json: bool) {
        match self {
            CliError::Fatal(reason) if !json => eprint!("{}", crate::fatal::message(reason)),
            _ if json => eprintln!("{}", self.json()),
            CliError::Unfit => {}
            _ => eprintln!("heddle: {self}"),
        }
    }

    fn json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            error: &'a str,
            code: Option<&'a str>,
        }
        let code = match self {
            CliError::Refused { code, .. } => Some(code.name()),
            _ => None,
        };
        let text = self.to_string();
        simd_json::to_string(&Line { error: &text, code }).unwrap_or(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error_worth_words() {
        assert!(matches!(CliError::output(io::ErrorKind::BrokenPipe.into()), CliError::BrokenPipe));
        assert!(matches!(CliError::output(io::ErrorKind::StorageFull.into()), CliError::Output(_)));
    }

    #[test]
    fn json_errors_carry_the_code() {
        let refused = CliError::Refused {
            what: "topic `a`".to_owned(),
            code: ErrorCode::TopicAlreadyExists,
            message: "it \"exists\"".to_owned(),
        };
        let text = refused.json();
        assert!(
            text.contains("\\\"exists\\\"") && text.contains("\"code\":\"TOPIC_ALREADY_EXISTS\""),
            "{text}"
        );
    }

    #[test]
    fn statuses() {
        assert_eq!(CliError::Usage("x".to_owned()).status(), 2);
        assert_eq!(CliError::Fatal(Fatal::Bug { detail: String::new() }).status(), 70);
    }
}

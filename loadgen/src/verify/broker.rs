//! The broker under test as a child process: started by one of several commands in turn, and killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Splits a command line into words. Single and double quotes keep words together; a backslash keeps the next
/// character as it is, except in single quotes.
pub fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match characters.next() {
                Some(kept) => word.get_or_insert_default().push(kept),
                None => return Err(format!("{line:?} ends with a backslash")),
            },
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err(format!("{line:?} has an open quote"));
    }
    words.extend(word);
    if words.is_empty() { Err("--serve is empty".to_owned()) } else { Ok(words) }
}

/// Starts and kills brokers.
pub struct Broker {
    commands: Vec<Vec<String>>,
    log_path: PathBuf,
    start_count: usize,
    child: Option<Child>,
}

impl Broker {
    /// Brokers by `commands` in turn, their output appended to `log_path`.
    pub fn new(commands: &[String], log_path: PathBuf) -> Result<Self, String> {
        let commands = commands.iter().map(|line| split_words(line)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { commands, log_path, start_count: 0, child: None })
    }

    /// How often one was started.
    pub fn start_count(&self) -> usize {
        self.start_count
    }

    /// Starts the next one.
    pub fn start(&mut self) -> Result<(), String> {
        let words = &self.commands[self.start_count % self.commands.len()];
        self.start_count += 1;
        let log = self.open_log().map_err(|e| format!("{}: {e}", self.log_path.display()))?;
        let errors = log.try_clone().map_err(|e| e.to_string())?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(log).stderr(errors);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and touches no memory. It makes
        // the broker die with the verifier, so that none is left behind.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        self.child = Some(command.spawn().map_err(|e| format!("cannot start {}: {e}", words[0]))?);
        Ok(())
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.log_path)
    }

    /// How it ended, if it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) -> Result<(), String> {
        if let Some(mut child) = self.child.take() {
            child.kill().map_err(|e| format!("killing the broker: {e}"))?;
            child.wait().map_err(|e| format!("waiting for the killed broker: {e}"))?;
        }
        Ok(())
    }

    /// Asks it to end with SIGTERM; kills it if it takes longer than `patience`. The status, if it ended by itself.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let pid = libc::pid_t::try_from(child.id()).ok()?;
        // SAFETY: a plain system call. The pid is that of our own child, which was not waited for yet, so it is not reused.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                return Some(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.kill();
        None
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_would() {
        let split = |line| split_words(line).unwrap();
        assert_eq!(split("a  --b c"), ["a", "--b", "c"]);
        assert_eq!(split(r#"a 'b c' "d \" e" f\ g ''"#), ["a", "b c", "d \" e", "f g", ""]);
        assert!(split_words("a 'b").is_err() && split_words("a\\").is_err() && split_words("  ").is_err());
    }

    #[test]
    fn commands_are_used_in_turn_and_killed() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let commands = ["sh -c 'echo first; exec sleep 100'".into(), "sh -c 'echo second; exit 3'".into()];
        let mut broker = Broker::new(&commands, log.path().to_owned()).unwrap();
        broker.start().unwrap();
        let until = |text: &str| {
            while !std::fs::read_to_string(log.path()).unwrap().contains(text) {
                thread::sleep(Duration::from_millis(1));
            }
        };
        until("first");
        assert_eq!(broker.ended(), None);
        broker.kill().unwrap();
        broker.start().unwrap();
        until("second");
        let status = loop {
            if let Some(status) = broker.ended() {
                break status;
            }
        };
        assert_eq!(status.code(), Some(3));
        assert_eq!(broker.start_count(), 2);
    }
}

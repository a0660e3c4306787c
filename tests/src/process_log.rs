//! The captured log of a child process.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Lines that a process has written, growing while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessLog(Arc<Mutex<Vec<String>>>);

impl ProcessLog {
    /// Collects the lines of `stream` until it ends.
    pub(crate) fn follow(
        &self,
        stream: impl AsyncRead + Unpin + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let log = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.0
                    .lock()
                    .expect("nobody panics with the log in hand")
                    .push(plain(&line));
            }
        })
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .expect("nobody panics with the log in hand")
            .clone()
    }

    /// Warnings and errors, except lines with one of the `expected` texts.
    pub(crate) fn complaints(&self, expected: &[String]) -> Vec<String> {
        self.lines()
            .into_iter()
            .filter(|line| is_complaint(line))
            .filter(|line| !expected.iter().any(|text| line.contains(text)))
            .collect()
    }

    /// The address after the word `listening`, once it was written.
    pub(crate) fn listening_address(&self) -> Option<String> {
        self.lines()
            .iter()
            .filter(|line| line.to_lowercase().contains("listen"))
            .find_map(|line| {
                let start = line.find("127.0.0.1:")?;
                let address: String = line[start..]
                    .chars()
                    .take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter))
                    .collect();
                Some(address)
            })
    }
}

fn is_complaint(line: &str) -> bool {
    let levels = [
        " WARN ",
        " ERROR ",
        "\"level\":\"WARN\"",
        "\"level\":\"ERROR\"",
        "panicked at",
    ];
    levels.iter().any(|level| line.contains(level))
        || line.starts_with("WARN ")
        || line.starts_with("ERROR ")
}

/// The line without the escape sequences that colour it.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out_and_levels_still_found() {
        let line = plain("2026 \u{1b}[33m WARN\u{1b}[0m worker: slow");
        assert_eq!(line, "2026  WARN worker: slow");
        assert!(is_complaint(&line));
        assert!(!is_complaint("2026  INFO worker: WARNING is a word"));
    }
}

//! `heddle produce`: a record a line, batched and pipelined; done when the last one is acknowledged.

mod input;
mod lines;
mod sender;

use self::input::Input;
use self::lines::Lines;
use self::sender::Sender;
use super::args::ProduceArgs;
use super::progress::Progress;
use super::session::Session;
use super::{CliError, output};
use serde::Serialize;
use std::time::Instant;

/// The result.
#[derive(Serialize)]
struct Summary<'a> {
    topic: &'a str,
    records: u64,
    bytes: u64,
    batches: u64,
}

/// Sends the whole input.
pub async fn run(args: ProduceArgs) -> Result<(), CliError> {
    let mut input = Input::open(args.file.as_deref())?;
    let session = Session::open(&args.connect.server).await?;
    let topic = session.topic(&args.topic, true).await?;
    let mut sender = Sender::new(session, &topic, &args)?;
    let begin = Instant::now();
    if let Err(cause) = send_all(&mut input, &mut sender, args.key_separator.as_deref()).await {
        return Err(sender.stopped(cause));
    }
    let counts = sender.counts();
    if args.connect.json {
        let (topic, records, bytes, batches) =
            (&*args.topic, counts.acknowledged, counts.bytes, counts.batches);
        return output::json(&Summary { topic, records, bytes, batches });
    }
    let verb = sender.verb();
    let time = begin.elapsed().as_secs_f64();
    output::line(&format!("{} records {verb}, {} bytes, {time:.1} s", counts.acknowledged, counts.bytes))
}

async fn send_all(input: &mut Input, sender: &mut Sender, separator: Option<&str>) -> Result<(), CliError> {
    let mut lines = Lines::new(input.name());
    let mut progress = Progress::new();
    loop {
        let chunk = input.read().await?;
        let at_end = chunk.is_empty();
        lines.push(&chunk)?;
        while let Some(line) = if at_end { lines.last() } else { lines.next() } {
            let (key, value) = lines.split(&line, separator)?;
            sender.add(key, value, &lines).await?;
        }
        if at_end {
            return sender.finish().await;
        }
        // Whoever writes our input slower than we read it should not wait for a full batch.
        if chunk.len() < input::CHUNK_BYTES {
            sender.send_open().await?;
        }
        progress.update(|| format!("{} records sent{}", sender.counts().sent, input.percent()));
    }
}

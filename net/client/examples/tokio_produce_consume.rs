//! Produces ten batches and reads them back, on tokio.
//!
//! Start a broker (`cargo run -- serve`), then:
//! `HEDDLE_SERVER=127.0.0.1:9092 cargo run -p heddle-client --example tokio_produce_consume`
use std::error::Error;
use std::io;
use std::time::Duration;

use heddle_client::batch::{BatchBuilder, Compression, batches, records};
use heddle_client::router::{Closures, Consumer, Environment, Router, RouterOptions};
use heddle_client::{
    Acks, Client, ErrorCode, NewTopic, PartitionIndex, ProduceTo, StartFrom, Timestamp, connection,
};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

const TOPIC: &str = "tokio-example";
const PARTITION: PartitionIndex = PartitionIndex::new(0);
const BATCH_COUNT: usize = 10;
const RECORDS_PER_BATCH: usize = 3;
const DECOMPRESSED_BYTES_MAX: usize = 16 << 20;

/// Connects, and drives the connection on a task of its own.
async fn connect(host: String, port: u16) -> io::Result<Client> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let (client, driver) = connection(stream.compat());
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            eprintln!("the connection ended: {error}");
        }
    });
    Ok(client)
}

fn server() -> Result<(String, u16), Box<dyn Error>> {
    let server = std::env::var("HEDDLE_SERVER").unwrap_or_else(|_| "127.0.0.1:9092".to_owned());
    let (host, port) = server.rsplit_once(':').ok_or("HEDDLE_SERVER reads HOST:PORT")?;
    Ok((host.to_owned(), port.parse()?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let environment = Closures { connect, sleep: tokio::time::sleep };
    let router = Router::new(environment, [server()?], RouterOptions::default());

    match router.any().await?.create_topic(NewTopic::named(TOPIC)).await {
        Ok(id) => println!("created topic {TOPIC} ({id})"),
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => println!("topic {TOPIC} exists"),
        Err(error) => return Err(error.into()),
    }
    let first_offset = produce(&router).await?;
    consume(router, first_offset).await
}

/// Sends all batches before the first acknowledgement is awaited; returns where the first one went.
async fn produce(router: &Router<impl Environment>) -> Result<StartFrom, Box<dyn Error>> {
    router.partition_count(TOPIC).await?; // waits until the topic is known
    let owner = router.locate(TOPIC, PARTITION).await?;
    let mut calls = Vec::new();
    for number in 0..BATCH_COUNT {
        let mut batch = BatchBuilder::new(Compression::None);
        for record in 0..RECORDS_PER_BATCH {
            let value = format!("record {record} of batch {number}");
            batch.push(Timestamp::NONE, Some(b"key"), Some(value.as_bytes()), &[])?;
        }
        calls.push(owner.client.produce(ProduceTo::from(&owner), Acks::All, batch.build()?.freeze()));
    }
    let mut first = None;
    for call in calls {
        let acknowledged = call.await?;
        println!("acknowledged at offset {}", acknowledged.base_offset);
        first.get_or_insert(acknowledged.base_offset);
    }
    Ok(first.map_or(StartFrom::Earliest, StartFrom::Offset))
}

async fn consume(router: Router<impl Environment>, from: StartFrom) -> Result<(), Box<dyn Error>> {
    let mut consumer = Consumer::new(router, TOPIC, PARTITION, from, 1 << 20);
    let mut count = 0;
    while count < BATCH_COUNT * RECORDS_PER_BATCH {
        let delivery = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await??;
        for batch in batches(&delivery.batches) {
            let (_, range) = batch?;
            for record in records(&delivery.batches[range], DECOMPRESSED_BYTES_MAX)? {
                let record = record?;
                let value = record.value.unwrap_or_default();
                println!("{}: {}", record.offset, String::from_utf8_lossy(&value));
                count += 1;
            }
        }
    }
    Ok(())
}

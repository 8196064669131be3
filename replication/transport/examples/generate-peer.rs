//! Makes `src/wire/generated.rs` from `schema/peer.fbs` with a `flatc` of the version that fits the
//! `flatbuffers` crate. Needs cmake and a C++ compiler, which building Heddle does not:
//!
//! `cargo run -p heddle-replication-transport --features codegen --example generate-peer`

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use heddle_proto::crc::crc32c;

fn main() -> io::Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = env::temp_dir().join(format!("heddle-generate-peer-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let status = Command::new(flatc_fork::flatc())
        .args(["--rust", "-o"])
        .arg(&out)
        .arg(package.join("schema/peer.fbs"))
        .status()?;
    assert!(status.success(), "flatc failed: {status}");
    let schema_crc = crc32c(&fs::read(package.join("schema/peer.fbs"))?);
    let banner = format!(
        "// Generated from schema/peer.fbs (CRC32C {schema_crc:08x}) by\n\
         // `cargo run -p heddle-replication-transport --features codegen --example generate-peer`. Do not edit.\n\n"
    );
    let target = package.join("src/wire/generated.rs");
    fs::write(&target, banner + &fs::read_to_string(out.join("peer_generated.rs"))?)?;
    fs::remove_dir_all(&out)?;
    println!("wrote {}", target.display());
    Ok(())
}

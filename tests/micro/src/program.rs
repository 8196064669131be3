//! The command line of a bench program: times by default, and what `perf-reports/micro/run.sh` asks for.

use std::env;
use std::process::ExitCode;

use crc_fast::CrcAlgorithm::Crc32Iscsi;

use crate::Piece;

/// Runs a bench program over `pieces`; the program itself registers them with [`divan`].
///
/// `--pieces` lists their names, `--allocations` adds the heap allocations of one operation, `--repeat PIECE COUNT` does so
/// many operations of one piece, `--crc-path` tells which instructions CRC32C is computed with on this processor. Anything
/// else is for divan: `--help` lists it.
pub fn main(pieces: &[Piece]) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--pieces", ..] => pieces.iter().for_each(|piece| println!("{piece}")),
        ["--allocations", ..] => {
            pieces.iter().for_each(|piece| println!("{piece}\t{:.2}", piece.allocations()));
        }
        ["--crc-path", ..] => println!("{}", crc_fast::get_calculator_target(Crc32Iscsi)),
        ["--repeat", name, count, ..] => return repeat(pieces, name, count),
        _ => divan::main(),
    }
    ExitCode::SUCCESS
}

fn repeat(pieces: &[Piece], name: &str, count: &str) -> ExitCode {
    let piece = pieces.iter().find(|piece| piece.name() == name);
    let (Some(piece), Ok(count)) = (piece, count.parse()) else {
        eprintln!(
            "--repeat takes the name of a piece (see --pieces) and a count, not {name:?} and {count:?}"
        );
        return ExitCode::from(2);
    };
    piece.repeat(count);
    ExitCode::SUCCESS
}

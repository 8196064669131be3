//! Cuts a segment file before one of its batches, so that it reads as if nothing had ever followed.
//!
//! Every step may be repeated after a crash: nothing before the cut is ever rewritten with anything else.

use std::io;

use heddle_proto::ids::Offset;

use super::drain_header::{DRAIN_HEADER_BYTES, DrainHeader};
use super::scan::Window;
use super::walk::{Step, Walker};
use crate::codec::{BLOCK_BYTES, align_up};
use crate::disk::{Disk, DiskFile};
use crate::options::Options;

/// Cuts the segment that `walker` stands at the beginning of, so that it ends at `to`, durably. Returns where its data then
/// ends, or `None` if no intact batch ends at `to`.
pub(crate) async fn cut_file<D: Disk>(
    disk: &D,
    options: &Options,
    file: &D::File,
    mut walker: Walker,
    to: Offset,
    data_end: u64,
) -> io::Result<Option<u64>> {
    let mut window = Window::default();
    while walker.expected < to {
        match walker.step(&window.view(data_end)) {
            Step::Batch(..) => {}
            Step::More(bytes) => {
                let wanted = options.read_ahead_bytes_max;
                window = Window::load(file, options, None, walker.position, bytes, wanted, data_end).await?;
                if window.end() < walker.position + bytes as u64 {
                    return Ok(None);
                }
            }
            Step::End | Step::Bad => return Ok(None),
        }
    }
    let Some(drain) = walker.drain.filter(|_| walker.expected == to) else { return Ok(None) };
    let end = end_drain(disk, file, drain, walker.position, to).await?;
    file.truncate(end).await?;
    file.sync().await?;
    Ok(Some(end))
}

/// Lets a drain end at `position`, where offset `to` would begin. The header lies within one sector, so it is the old one or
/// the new one after a crash.
async fn end_drain<D: Disk>(
    disk: &D,
    file: &D::File,
    drain: DrainHeader,
    position: u64,
    to: Offset,
) -> io::Result<u64> {
    let data_bytes = position - drain.position - DRAIN_HEADER_BYTES as u64;
    let header = DrainHeader { next: to, data_bytes: data_bytes as u32, ..drain };
    let last_block = position - position % BLOCK_BYTES as u64;
    if last_block != position && last_block != drain.position {
        rewrite(disk, file, last_block, |block| block[(position - last_block) as usize..].fill(0)).await?;
    }
    rewrite(disk, file, drain.position, |block| {
        block[..DRAIN_HEADER_BYTES].copy_from_slice(&header.encode());
        if last_block == drain.position {
            block[(position - last_block) as usize..].fill(0);
        }
    })
    .await?;
    Ok(align_up(position))
}

async fn rewrite<D: Disk>(
    disk: &D,
    file: &D::File,
    position: u64,
    change: impl FnOnce(&mut [u8]),
) -> io::Result<()> {
    let mut block = disk.alloc(BLOCK_BYTES);
    let read = file.read_at(position, block.as_mut()).await?;
    block.as_mut()[read..].fill(0);
    change(block.as_mut());
    let written = file.write_at(block, position).await?;
    if written == BLOCK_BYTES {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {BLOCK_BYTES} bytes at {position}")))
}

const _: () = assert!(DRAIN_HEADER_BYTES <= 512, "a drain header lies within one sector");

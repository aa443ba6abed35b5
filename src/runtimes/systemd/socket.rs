//! A stream that zbus may read from.
//!
//! zbus would authenticate by itself, but it panics on an empty line there, and it reserves room for 128 MiB because a
//! header says so. Here the peer gets 512 bytes to let us in, a message 8 MiB, and no way to hand over descriptors.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use std::{
    future::poll_fn,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    pin::Pin,
};
use tokio::{
    io::AsyncWrite,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use zbus::{
    connection::socket::{ReadHalf, Socket, Split, WriteHalf},
    export::async_trait::async_trait,
};

pub(super) const MAX_MESSAGE_BYTES: u64 = 8 << 20;
const MAX_HANDSHAKE_BYTES: usize = 512;

/// The stream and the peer's GUID.
pub(super) async fn connect(path: &Path) -> io::Result<(Stream, String)> {
    let stream = UnixStream::connect(path).await?;
    // The peer takes our user id from the socket. One that we sent could be another one in its user namespace.
    send(&stream, b"\0AUTH EXTERNAL\r\nDATA\r\n").await?;
    let answer = read_lines(&stream, 2).await?;
    let guid = match answer.split_once("\r\n") {
        Some(("DATA", rest)) => rest.strip_suffix("\r\n").and_then(|line| line.strip_prefix("OK ")),
        _ => None,
    };
    let Some(guid) = guid else {
        return Err(nonsense(format!("it does not let us in: {answer:?}")));
    };
    let guid = guid.to_owned();
    send(&stream, b"BEGIN\r\n").await?;
    Ok((Stream(stream), guid))
}

async fn send(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

async fn read_lines(stream: &UnixStream, lines: usize) -> io::Result<String> {
    let mut answer = Vec::new();
    while answer.iter().filter(|&&b| b == b'\n').count() < lines {
        stream.readable().await?;
        let mut buffer = [0; MAX_HANDSHAKE_BYTES];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(err) => return Err(err),
        }
        if answer.len() > MAX_HANDSHAKE_BYTES {
            return Err(nonsense("it does not come to the point".to_owned()));
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn nonsense(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[derive(Debug)]
pub(super) struct Stream(pub(super) UnixStream);

impl Socket for Stream {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        let frames = Frames::default();
        Split::new(Reader { read, frames }, Writer(write))
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    read: OwnedReadHalf,
    frames: Frames,
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            self.read.readable().await?;
            match self.read.try_read(buffer) {
                Ok(read) => {
                    self.frames.advance(buffer.get(..read).unwrap_or_default())?;
                    return Ok((read, Vec::new()));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(err),
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            self.0.writable().await?;
            match self.0.try_write(buffer) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.0).poll_shutdown(cx)).await
    }
}

/// What of every message says how long it is.
const HEADER_BYTES: usize = 16;

/// Follows where messages begin, and refuses one that is too long before anybody makes room for it.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Of the message whose header has been seen.
    left: u64,
}

impl Frames {
    fn advance(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.left -= skipped as u64;
                continue;
            }
            let wanted = (HEADER_BYTES - self.header.len()).min(bytes.len());
            let (header, rest) = bytes.split_at(wanted);
            self.header.extend_from_slice(header);
            bytes = rest;
            if self.header.len() == HEADER_BYTES {
                let total = message_len(&self.header);
                if total > MAX_MESSAGE_BYTES {
                    return Err(nonsense(format!("a message of {total} bytes")));
                }
                self.left = total - HEADER_BYTES as u64;
                self.header.clear();
            }
        }
        Ok(())
    }
}

fn message_len(header: &[u8]) -> u64 {
    let number = |at: usize| {
        let bytes = header
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or_default();
        let little = header.first() == Some(&b'l');
        u64::from(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    let (body, fields) = (number(4), number(12));
    HEADER_BYTES as u64 + fields.next_multiple_of(8) + body
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(body: u32, fields: u32) -> Vec<u8> {
        let mut header = b"l\x04\x00\x01".to_vec();
        for number in [body, 1, fields] {
            header.extend(number.to_le_bytes());
        }
        header
    }

    #[test]
    fn lengths_are_those_of_zbus() {
        let message = zbus::Message::signal("/a", "a.b", "C").build(&("text", 7u32)).unwrap();
        let bytes = message.data();
        assert_eq!(message_len(bytes), bytes.len() as u64);
        assert_eq!(message_len(&header(3, 9)), 16 + 16 + 3);
        let mut big_endian = header(0, 0);
        big_endian[0] = b'B';
        big_endian[7] = 5;
        assert_eq!(message_len(&big_endian), 21);
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_with_its_header() {
        let max = u32::try_from(MAX_MESSAGE_BYTES).unwrap() - 16;
        Frames::default().advance(&header(max, 0)).unwrap();
        for (body, fields) in [(max + 1, 0), (0, max + 1), (u32::MAX, u32::MAX)] {
            let err = Frames::default().advance(&header(body, fields)).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::InvalidData);
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_same_messages(
            bodies in prop::collection::vec(0u32..40, 1..6),
            cut in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            for body in bodies {
                bytes.extend(header(body, 5));
                bytes.extend(vec![0xff; 8 + body as usize]);
            }
            let mut frames = Frames::default();
            for piece in bytes.chunks(cut) {
                frames.advance(piece).unwrap();
            }
            prop_assert_eq!((frames.left, frames.header.len()), (0, 0));
        }

        #[test]
        fn total(bytes: Vec<u8>) {
            let mut frames = Frames::default();
            if frames.advance(&bytes).is_ok() {
                prop_assert!(frames.left <= MAX_MESSAGE_BYTES && frames.header.len() < HEADER_BYTES);
            }
        }
    }
}

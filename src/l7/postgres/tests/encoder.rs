//! Messages, as the two ends say them.

pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn text(kind: u8, text: &str) -> Vec<u8> {
    message(kind, &[text.as_bytes(), &[0]].concat())
}

pub(super) fn startup() -> Vec<u8> {
    let parameters = b"user\0bob\0database\0shop\0\0";
    let len = 8 + parameters.len() as u32;
    [&len.to_be_bytes()[..], &196_610u32.to_be_bytes(), parameters].concat()
}

pub(super) fn ssl_request() -> Vec<u8> {
    [8u32.to_be_bytes(), 80_877_103u32.to_be_bytes()].concat()
}

pub(super) fn gssenc_request() -> Vec<u8> {
    [8u32.to_be_bytes(), 80_877_104u32.to_be_bytes()].concat()
}

pub(super) fn cancel_request() -> Vec<u8> {
    [&16u32.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &[9; 8]].concat()
}

pub(super) fn query(sql: &str) -> Vec<u8> {
    text(b'Q', sql)
}

pub(super) fn call() -> Vec<u8> {
    message(b'F', &[0, 0, 5, 200, 0, 0, 0, 0, 0, 1])
}

pub(super) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), &[0], sql.as_bytes(), &[0, 0, 0]].concat())
}

pub(super) fn bind(portal: &str, name: &str) -> Vec<u8> {
    let body = [portal.as_bytes(), &[0], name.as_bytes(), &[0, 0, 0, 0, 0, 0, 0]];
    message(b'B', &body.concat())
}

pub(super) fn describe(kind: char, name: &str) -> Vec<u8> {
    text(b'D', &format!("{kind}{name}"))
}

pub(super) fn close(kind: char, name: &str) -> Vec<u8> {
    text(b'C', &format!("{kind}{name}"))
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0, 0, 0, 0, 0]].concat())
}

pub(super) fn bare(kind: char) -> Vec<u8> {
    message(kind as u8, &[])
}

pub(super) fn sync() -> Vec<u8> {
    bare('S')
}

pub(super) fn flush() -> Vec<u8> {
    bare('H')
}

pub(super) fn copy_data(len: usize) -> Vec<u8> {
    message(b'd', &vec![b'x'; len])
}

pub(super) fn copy_fail() -> Vec<u8> {
    text(b'f', "no")
}

/// `AuthenticationOk` and what follows it.
pub(super) fn welcome() -> Vec<u8> {
    [
        message(b'R', &[0; 4]),
        message(b'S', b"server_version\0y.y\0"),
        message(b'K', &[7; 8]),
        ready(),
    ]
    .concat()
}

pub(super) fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

pub(super) fn row_description() -> Vec<u8> {
    message(b'T', &[&[0, 1][..], b"x\0", &[0; 18]].concat())
}

pub(super) fn row(len: usize) -> Vec<u8> {
    message(
        b'D',
        &[&[0, 1][..], &(len as u32).to_be_bytes(), &vec![b'x'; len]].concat(),
    )
}

pub(super) fn complete() -> Vec<u8> {
    text(b'C', "SELECT y")
}

pub(super) fn error() -> Vec<u8> {
    message(b'E', b"SERROR\0C42P01\0Mno\0\0")
}

pub(super) fn notice() -> Vec<u8> {
    message(b'N', b"SNOTICE\0C00000\0Mwell\0\0")
}

pub(super) fn notification() -> Vec<u8> {
    message(b'A', b"\0\0\0\x09x\0y\0")
}

pub(super) fn copy_begins(kind: char) -> Vec<u8> {
    message(kind as u8, &[0, 0, 1, 0, 0])
}

//! Rows in the binary format of COPY, which the server reads several times faster than statements.
//!
//! ```text
//! "PGCOPY\n" ff "\r\n" 00 | flags: u32 0 | extension: u32 0 | rows ... | end: i16 -1
//! row: i16 count of fields | for each: i32 length, bytes            all big-endian
//! ```
//!
//! <https://www.postgresql.org/docs/15/sql-copy.html>, "Binary Format".

const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: [u8; 2] = (-1_i16).to_be_bytes();

/// Rows that are being gathered.
#[derive(Debug)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    count: usize,
}

/// A value of a field, as the server reads it.
pub(super) trait Field {
    /// Appends length and bytes.
    fn put(self, out: &mut Vec<u8>);
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { bytes: HEAD.to_vec(), count: 0 }
    }

    /// Begins a row of so many fields, which follow by [`Rows::field`].
    pub(super) fn row(&mut self, fields: i16) -> &mut Self {
        self.bytes.extend_from_slice(&fields.to_be_bytes());
        self.count += 1;
        self
    }

    pub(super) fn field(&mut self, value: impl Field) -> &mut Self {
        value.put(&mut self.bytes);
        self
    }

    /// How many rows.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// How many bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The whole body; nothing is gathered any more.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&END);
        let capacity = self.bytes.len();
        let mut next = Vec::with_capacity(capacity);
        next.extend_from_slice(HEAD);
        self.count = 0;
        std::mem::replace(&mut self.bytes, next)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // No field is longer than a block, which is bounded far below.
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

impl Field for i16 {
    fn put(self, out: &mut Vec<u8>) {
        put(out, &self.to_be_bytes());
    }
}

impl Field for i32 {
    fn put(self, out: &mut Vec<u8>) {
        put(out, &self.to_be_bytes());
    }
}

impl Field for i64 {
    fn put(self, out: &mut Vec<u8>) {
        put(out, &self.to_be_bytes());
    }
}

impl Field for bool {
    fn put(self, out: &mut Vec<u8>) {
        put(out, &[u8::from(self)]);
    }
}

impl Field for &[u8] {
    fn put(self, out: &mut Vec<u8>) {
        put(out, self);
    }
}

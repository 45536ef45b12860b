//! Records in columns: whose each is, its key, its times, the numbers and words in its payload, each said as what it differs
//! by from what was to be expected. Owns the body's layout, and how records are taken apart; any bytes that are records
//! come back bit for bit.
//!
//! ```text
//! | format 1 | bytes of text | of these as packed | text, LZ4 where that is smaller | numbers: bits, to the end |
//! | u8       | LEB128        | LEB128             |
//! ```
//!
//! `docs/data-files.md` says it bit by bit.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use xxhash_rust::xxh3::Xxh3;

use super::bits::{Reader, Torn, Writer};
use super::model::{Item, KeyForm, Model, NAMES, Name, Shape, read_leb128, write_leb128};
use super::slots::Past;
use super::text::Pattern;
use super::words::Words;
use crate::limits::{BLOCK_RAW_BYTES_MAX, COLUMN_BINARY_BYTES_MAX, COLUMN_PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::record::{Key, Reading};
use crate::time::WallMillis;

/// The layout written here; others are refused.
const FORMAT: u8 = 1;
/// Templates that a block may have in any case; beyond them one for every fourth record: payloads that have nothing in
/// common are packed as text.
const TEMPLATES_FREE: usize = 16;

/// The `count` records of `raw` in columns. `None` where they are no records, or would not be shorter.
pub(super) fn pack(raw: &[u8], count: u32) -> Option<Vec<u8>> {
    let mut packer = Packer { model: Model::new(), sources: BTreeMap::new(), templates: BTreeMap::new(), items: 0 };
    let mut writer = Writer::new(raw.len() / 4);
    let (mut rest, mut item) = (raw, Item::default());
    for _ in 0..count {
        let (reading, after) = Reading::decode(rest).ok()?;
        packer.push(&reading, &mut writer, &mut item).ok()?;
        if writer.length() >= raw.len() {
            return None;
        }
        rest = after;
    }
    if !rest.is_empty() {
        return None;
    }
    let (numbers, text) = writer.finish();
    let mut body = Vec::with_capacity(numbers.len() + text.len() + 16);
    body.push(FORMAT);
    write_leb128(text.len() as u64, &mut body);
    let mut packed = vec![0; lz4_flex::block::get_maximum_output_size(text.len())];
    let length = lz4_flex::block::compress_into(&text, &mut packed).ok()?;
    let text = if length < text.len() { &packed[..length] } else { &text };
    write_leb128(text.len() as u64, &mut body);
    body.extend_from_slice(text);
    body.extend_from_slice(&numbers);
    (body.len() < raw.len()).then_some(body)
}

/// The `raw_len` bytes of `count` records that `body` says. Allocates some megabytes at most, whatever it says.
pub(super) fn unpack(body: &[u8], count: u32, raw_len: usize) -> Result<Vec<u8>, Torn> {
    let rest = body.strip_prefix(&[FORMAT]).ok_or(Torn)?;
    let (length, rest) = read_leb128(rest).ok_or(Torn)?;
    let (packed, rest) = read_leb128(rest).ok_or(Torn)?;
    let [length, packed] = [length, packed].map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length > raw_len.min(BLOCK_RAW_BYTES_MAX) {
        return Err(Torn);
    }
    let (packed, numbers) = rest.split_at_checked(packed).ok_or(Torn)?;
    let mut text = Vec::new();
    if packed.len() < length {
        text.resize(length, 0);
        let read = lz4_flex::block::decompress_into(packed, &mut text);
        read.ok().filter(|read| *read == length).ok_or(Torn)?;
    } else if packed.len() == length {
        text.extend_from_slice(packed);
    } else {
        return Err(Torn);
    }
    let mut reader = Reader::new(numbers, &text);
    let (mut model, mut item) = (Model::new(), Item::default());
    let (mut raw, mut payload) = (Vec::with_capacity(raw_len), Vec::new());
    for _ in 0..count {
        item.payload.clear();
        model.code(&mut reader, &mut item, None)?;
        payload.clear();
        model.write_payload(&item, &mut payload, PAYLOAD_BYTES_MAX)?;
        write_record(&model, &item, &payload, &mut raw)?;
        if raw.len() > raw_len {
            return Err(Torn);
        }
    }
    reader.finish()?;
    if raw.len() == raw_len { Ok(raw) } else { Err(Torn) }
}

fn write_record(model: &Model, item: &Item, payload: &[u8], raw: &mut Vec<u8>) -> Result<(), Torn> {
    let source = model.sources.get(item.source).ok_or(Torn)?;
    let form = model.templates.get(item.template).ok_or(Torn)?.key;
    let value = |nth: usize| item.values.get(nth).copied().ok_or(Torn);
    let key = match form {
        KeyForm::Name => return Err(Torn),
        KeyForm::Sequence => Key::Sequence { epoch: value(1)?, seq: value(2)? },
        KeyForm::Content => Key::content(source.publisher.as_bytes(), source.topic.as_bytes(), payload),
        KeyForm::OtherContent => Key::Content(item.digest),
        KeyForm::Delivery => Key::Delivery { digest: item.digest, resent: false },
        KeyForm::Resent => Key::Delivery { digest: item.digest, resent: true },
    };
    let (kind, taken) = (source.kind, WallMillis(value(0)?));
    let (publisher, topic) = (source.publisher.as_str(), source.topic.as_str());
    Reading { kind, publisher, key, taken, topic, payload }.encode(raw);
    Ok(())
}

/// Takes records apart.
struct Packer {
    model: Model,
    /// Sources by the digest of their names.
    sources: BTreeMap<u64, usize>,
    /// Templates by their digest.
    templates: BTreeMap<u64, usize>,
    /// Records and names so far.
    items: usize,
}

impl Packer {
    fn push(&mut self, reading: &Reading<'_>, writer: &mut Writer, item: &mut Item) -> Result<(), Torn> {
        item.source = self.source(reading);
        let is_new = item.source == self.model.sources.len();
        let name = is_new.then(|| self.name(reading));
        // A name may bring a template of its own, which is said first.
        let fresh = self.model.templates.len() + usize::from(name.as_ref().is_some_and(|of| of.item.fresh.is_some()));
        item.values.clear();
        item.values.push(reading.taken.0);
        let form = match reading.key {
            Key::Sequence { epoch, seq } => {
                item.values.extend([epoch, seq]);
                KeyForm::Sequence
            }
            Key::Content(digest) => {
                item.digest = digest;
                let (publisher, topic) = (reading.publisher.as_bytes(), reading.topic.as_bytes());
                let is_plain = reading.key == Key::content(publisher, topic, reading.payload);
                if is_plain { KeyForm::Content } else { KeyForm::OtherContent }
            }
            Key::Delivery { digest, resent } => {
                item.digest = digest;
                if resent { KeyForm::Resent } else { KeyForm::Delivery }
            }
        };
        self.take_apart(form, reading.payload, fresh, item);
        self.items += 1;
        self.model.code(writer, item, name)
    }

    /// Whose record it is.
    fn source(&mut self, reading: &Reading<'_>) -> usize {
        let next = self.model.sources[self.model.previous].next;
        if self.is_of(reading, next) {
            return next;
        }
        let mut digest = Xxh3::new();
        (reading.publisher, reading.topic, reading.kind as u8).hash(&mut digest);
        let new = self.model.sources.len();
        let known = *self.sources.entry(digest.finish()).or_insert(new);
        if known != NAMES && self.is_of(reading, known) { known } else { new }
    }

    fn is_of(&self, reading: &Reading<'_>, source: usize) -> bool {
        source != NAMES
            && self.model.sources.get(source).is_some_and(|source| {
                source.publisher == reading.publisher && source.topic == reading.topic && source.kind == reading.kind
            })
    }

    /// The name of the source of `reading`, which is new.
    fn name(&mut self, reading: &Reading<'_>) -> Name {
        let text = [reading.publisher.as_bytes(), reading.topic.as_bytes()].concat();
        let mut item = Item { source: NAMES, values: vec![reading.publisher.len() as u64], ..Item::default() };
        self.take_apart(KeyForm::Name, &text, self.model.templates.len(), &mut item);
        self.items += 1;
        Name { kind: reading.kind, item }
    }

    /// Chooses the template of `payload` and appends what stands in its slots to `item.values`, where those of the key are
    /// already. `fresh` is the place that a new template would have.
    fn take_apart(&mut self, form: KeyForm, payload: &[u8], fresh: usize, item: &mut Item) {
        item.fresh = None;
        let likely = self.model.likely(item.source);
        let other = self.model.sources.get(item.source).and_then(|source| source.templates[1]);
        for template in [likely, other].into_iter().flatten() {
            if self.fits(template, form, payload, item) {
                item.template = template;
                return;
            }
        }
        let shape_of = |template: Option<usize>| Some(&self.model.templates.get(template?)?.shape);
        // Where the last one was like nothing, every eighth is looked at again.
        let is_hopeless = shape_of(likely) == Some(&Shape::Opaque) && !self.items.is_multiple_of(8);
        let shape = match is_hopeless {
            true => None,
            false => self.shape(form, payload, item.source, shape_of(likely).or(shape_of(other))),
        };
        if let Some(shape) = shape
            && let Some(template) = self.template(form, &shape, fresh, item.source)
        {
            let key_slots = item.values.len();
            let fits = match template == fresh {
                true => values(&shape, payload, &mut self.model.words, &[], &mut item.values).is_some(),
                false => self.fits(template, form, payload, item),
            };
            if fits {
                item.template = template;
                item.fresh = (template == fresh).then_some((form, shape));
                return;
            }
            item.values.truncate(key_slots);
            self.model.words.forget_untold();
        }
        item.template = self.template(form, &Shape::Opaque, fresh, item.source).unwrap_or(fresh);
        item.fresh = (item.template == fresh).then_some((form, Shape::Opaque));
        item.values.push(payload.len() as u64);
        item.payload.clear();
        item.payload.extend_from_slice(payload);
    }

    /// Whether `payload` is of this template; then what stands in its slots is appended.
    fn fits(&mut self, template: usize, form: KeyForm, payload: &[u8], item: &mut Item) -> bool {
        let Some(of) = self.model.templates.get(template) else { return false };
        let is_apart = of.key != form || payload.len() > COLUMN_PAYLOAD_BYTES_MAX || of.shape == Shape::Opaque;
        if is_apart || of.is_noise() || !self.model.has_room(item.source, form, &of.shape, false) {
            return false;
        }
        let key_slots = item.values.len();
        let past = self
            .model
            .sources
            .get(item.source)
            .map_or(&[][..], |source| source.past.as_slice());
        let before = past.get(key_slots..).unwrap_or_default();
        let words = &mut self.model.words;
        if values(&of.shape, payload, words, before, &mut item.values).is_some() {
            return true;
        }
        item.values.truncate(key_slots);
        self.model.words.forget_untold();
        false
    }

    /// The place of a template, which is `fresh` where it would be a new one; `None` where there is no room for it.
    fn template(&mut self, form: KeyForm, shape: &Shape, fresh: usize, source: usize) -> Option<usize> {
        let mut digest = Xxh3::new();
        (form, shape).hash(&mut digest);
        let digest = digest.finish();
        if let Some(place) = self.templates.get(&digest)
            && let Some(known) = self.model.templates.get(*place)
            && (known.key, &known.shape) == (form, shape)
        {
            return Some(*place);
        }
        let is_many = self.model.templates.len() >= TEMPLATES_FREE + self.items / 4;
        if *shape != Shape::Opaque && (is_many || !self.model.has_room(source, form, shape, true)) {
            return None;
        }
        self.templates.insert(digest, fresh);
        Some(fresh)
    }

    /// The shape of a payload that is of no known template: like `like` as far as it can be.
    fn shape(&self, form: KeyForm, payload: &[u8], source: usize, like: Option<&Shape>) -> Option<Shape> {
        if payload.len() > COLUMN_PAYLOAD_BYTES_MAX {
            return None;
        }
        if is_text(payload) {
            let like = like.and_then(|like| match like {
                Shape::Text(pattern) => Some(pattern),
                Shape::Bytes(_) | Shape::Numbers(_) | Shape::Opaque => None,
            });
            let pattern = Pattern::of(payload, like)?;
            // Names come before the record's words.
            let suits = form != KeyForm::Name || !pattern.has_words();
            return suits.then_some(Shape::Text(pattern));
        }
        if payload.len() > COLUMN_BINARY_BYTES_MAX {
            return None;
        }
        let count = payload.iter().filter(|byte| **byte < 0x80).count();
        if let Some(Shape::Bytes(length)) = like
            && *length != payload.len()
            && let Some(past) = self
                .model
                .sources
                .get(source)
                .and_then(|source| source.past.get(form.slots()..))
            && past.iter().take(*length).filter(|past| past.last < 0x80).count() == count
            && values(&Shape::Numbers(count), payload, &mut Words::default(), &[], &mut Vec::new()).is_some()
        {
            return Some(Shape::Numbers(count));
        }
        Some(Shape::Bytes(payload.len()))
    }
}

/// What stands in the slots of `payload`, if it is of this shape.
fn values(shape: &Shape, payload: &[u8], words: &mut Words, before: &[Past], values: &mut Vec<u64>) -> Option<()> {
    match shape {
        Shape::Text(pattern) => pattern.take_apart(payload, words, before, values),
        Shape::Bytes(length) => {
            values.extend(payload.iter().map(|byte| u64::from(*byte)));
            (payload.len() == *length).then_some(())
        }
        Shape::Numbers(count) => {
            let mut rest = payload;
            for _ in 0..*count {
                let (value, after) = read_leb128(rest)?;
                // The number is written without zeros at its end.
                if rest.len() - after.len() > 1 && rest[rest.len() - after.len() - 1] == 0 {
                    return None;
                }
                values.push(value);
                rest = after;
            }
            rest.is_empty().then_some(())
        }
        Shape::Opaque => None,
    }
}

fn is_text(payload: &[u8]) -> bool {
    let is_plain = |byte: &u8| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r');
    payload.iter().all(is_plain) && core::str::from_utf8(payload).is_ok()
}

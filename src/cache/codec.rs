//! A stored answer's head as bytes, for the disk tier, which does not look into them.
//!
//! Little-endian, every length before what it measures. The disk tier versions and checks what it stores; whatever here does
//! not come out even is no head.

use super::disk::Id;
use super::head::Head;
use super::key::{Key, Variant};
use super::moment::Moment;
use super::object::{Body, Object};
use crate::policy::cache::freshness::Freshness;
use http::StatusCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Writes the head of an answer.
pub fn encode(object: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend(object.key.url);
    out.extend(object.key.who);
    put(&mut out, object.place.as_bytes());
    out.push(u8::from(object.variant.is_some()));
    out.extend(object.variant.unwrap_or_default());
    out.extend(object.born.0.to_le_bytes());
    let f = &object.freshness;
    for time in [
        f.received,
        f.initial_age,
        f.lifetime,
        f.stale_while_revalidate,
        f.stale_if_error,
    ] {
        out.extend(
            u64::try_from(time.as_micros())
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
    }
    out.push(u8::from(f.never_stale) | u8::from(f.always_validate) << 1);
    out.extend(object.head.status.as_u16().to_le_bytes());
    for (name, value) in object.head.fields() {
        put(&mut out, name);
        put(&mut out, value);
    }
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    out.extend(&bytes[..length as usize]);
}

/// Reads it back; `None` when these bytes are no head.
pub fn decode(bytes: &[u8], id: Id, body: Body) -> Option<Object> {
    let mut rest = bytes;
    let key = Key {
        url: take(&mut rest)?,
        who: take(&mut rest)?,
    };
    let place = std::str::from_utf8(get(&mut rest)?).ok()?;
    let [varies] = take::<1>(&mut rest)?;
    let variant: Variant = take(&mut rest)?;
    let born = Moment(u64::from_le_bytes(take(&mut rest)?));
    let mut times = [Duration::ZERO; 5];
    for time in &mut times {
        *time = Duration::from_micros(u64::from_le_bytes(take(&mut rest)?));
    }
    let [flags] = take::<1>(&mut rest)?;
    let status = u16::from_le_bytes(take(&mut rest)?);
    let head = Head::with_fields(
        StatusCode::from_u16(status).ok()?,
        fields(rest)?.into_iter(),
    )?;
    let [
        received,
        initial_age,
        lifetime,
        stale_while_revalidate,
        stale_if_error,
    ] = times;
    let freshness = Freshness {
        received,
        initial_age,
        lifetime,
        never_stale: flags & 1 != 0,
        always_validate: flags & 2 != 0,
        stale_while_revalidate,
        stale_if_error,
    };
    let variant = (varies != 0).then_some(variant);
    let mut object = Object::new(key, place, variant, head, freshness, body, born);
    object.file = Some(id);
    if let Body::File(stored) = &object.body {
        object.copy.store(stored.copy(), Ordering::Release);
    }
    // Two keys that share the half that files are named by.
    (object.id() == id).then_some(object)
}

/// The fields, if that is what there is.
fn fields(mut rest: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut fields = Vec::with_capacity(16);
    while !rest.is_empty() {
        fields.push((get(&mut rest)?, get(&mut rest)?));
    }
    Some(fields)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn get<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(rest)?);
    let (taken, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(taken)
}

//! The core's processors by instrument, as the Flink job calls them: `tapeworks.flink.Core`.
//!
//! Whole batches cross the border as arrays of bytes. A handle is the address of an object that
//! lives until it is freed; the job uses each from one thread. Errors, and panics, which are our
//! bugs, become exceptions of Java.

mod border;
mod plan;

use std::time::Duration;

use border::{array, bytes, freed, guarded, held, kept};
use jni_sys::{jboolean, jbyteArray, jclass, jint, jlong, JNIEnv};
use tapeworks_core::keyed::{Form, Instances, Output, Router};
use tapeworks_core::{Error, Reader, TapeKind};

/// A batch of records that stand on the tape one after the other: their first offset, records.
const TAPE: u8 = 1;
/// A batch of messages: line, length, message, over and over.
const MESSAGES: u8 = 2;

/// Defines a function of the class `tapeworks.flink.Core`.
macro_rules! native {
    ($name:ident($env:ident $(, $argument:ident: $type:ty)*) -> $back:ty $body:block) => {
        /// See `Core.java`.
        ///
        /// # Safety
        /// Called by the JVM alone, with handles that functions of this file returned.
        #[no_mangle]
        pub unsafe extern "system" fn $name(
            $env: *mut JNIEnv,
            _class: jclass
            $(, $argument: $type)*
        ) -> $back {
            // SAFETY: the JVM gives its own, and the job keeps to what the file says of handles.
            unsafe { guarded($env, || $body) }
        }
    };
}

native! { Java_tapeworks_flink_Core_newRouter(env, plan: jbyteArray, source: jbyteArray,
    shards: jint) -> jlong {
    let source = plan::text(bytes(env, source)?)?;
    Ok(kept(Router::new(&plan::parse(&bytes(env, plan)?)?, &source, shards as u32)?))
} }

native! { Java_tapeworks_flink_Core_restoreRouter(env, plan: jbyteArray, shards: jint,
    state: jbyteArray) -> jlong {
    let plan = plan::parse(&bytes(env, plan)?)?;
    Ok(kept(Router::restore(&plan, shards as u32, &bytes(env, state)?)?))
} }

native! { Java_tapeworks_flink_Core_deal(env, router: jlong, batch: jbyteArray) -> jbyteArray {
    let (router, batch) = (held::<Router>(router), bytes(env, batch)?);
    deal(router, &batch)?;
    let mut out = Vec::with_capacity(batch.len() + batch.len() / 4);
    router.take(|shard, frame| {
        out.extend_from_slice(&shard.to_le_bytes());
        out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        out.extend_from_slice(frame);
        Ok::<_, Error>(())
    })?;
    array(env, &out)
} }

native! { Java_tapeworks_flink_Core_routerWatermark(env, router: jlong) -> jlong {
    let _ = env;
    Ok(held::<Router>(router).watermark())
} }

native! { Java_tapeworks_flink_Core_routerNext(env, router: jlong) -> jlong {
    let _ = env;
    Ok(held::<Router>(router).next().unwrap_or(0) as jlong)
} }

native! { Java_tapeworks_flink_Core_routerWaiting(env, router: jlong) -> jlong {
    let _ = env;
    Ok(held::<Router>(router).waiting().1 as jlong)
} }

native! { Java_tapeworks_flink_Core_routerState(env, router: jlong) -> jbyteArray {
    let mut state = Vec::new();
    held::<Router>(router).snapshot(&mut state)?;
    array(env, &state)
} }

native! { Java_tapeworks_flink_Core_freeRouter(env, router: jlong) -> () {
    let _ = env;
    freed::<Router>(router);
    Ok(())
} }

native! { Java_tapeworks_flink_Core_newInstances(env, plan: jbyteArray, messages: jboolean)
-> jlong {
    let form = if messages == 0 { Form::Records } else { Form::Messages };
    Ok(kept(Instances::new(&plan::parse(&bytes(env, plan)?)?, form)))
} }

native! { Java_tapeworks_flink_Core_process(env, instances: jlong, source: jbyteArray, shard: jint,
    frame: jbyteArray) -> jbyteArray {
    let source = plan::text(bytes(env, source)?)?;
    let (frame, mut out) = (bytes(env, frame)?, Vec::new());
    out.reserve(frame.len());
    let mut put = |output: Output<'_>| {
        out.push(output.step as u8);
        out.extend_from_slice(&output.ts_event.to_le_bytes());
        for part in [output.key, output.body] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    };
    held::<Instances>(instances).process(&source, shard as u32, &frame, &mut put)?;
    array(env, &out)
} }

native! { Java_tapeworks_flink_Core_changed(env, instances: jlong) -> jbyteArray {
    let mut out = Vec::new();
    held::<Instances>(instances).changed(|shard, name, state| {
        out.extend_from_slice(&shard.to_le_bytes());
        for part in [name.as_bytes(), state] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
        Ok::<_, Error>(())
    })?;
    array(env, &out)
} }

native! { Java_tapeworks_flink_Core_restoreInstance(env, instances: jlong, shard: jint,
    state: jbyteArray) -> () {
    let state = bytes(env, state)?;
    held::<Instances>(instances).restore(shard as u32, &state)
} }

native! { Java_tapeworks_flink_Core_freeInstances(env, instances: jlong) -> () {
    let _ = env;
    freed::<Instances>(instances);
    Ok(())
} }

native! { Java_tapeworks_flink_Core_topics(env, plan: jbyteArray) -> jbyteArray {
    let plan = plan::parse(&bytes(env, plan)?)?;
    let names: Vec<_> = plan.topics().map(|(_, topic)| topic).collect();
    array(env, names.join("\n").as_bytes())
} }

native! { Java_tapeworks_flink_Core_openTape(env, path: jbyteArray, offset: jlong) -> jlong {
    let path = plan::text(bytes(env, path)?)?;
    let mut reader = Reader::open(path.as_ref())?;
    if reader.kind() != TapeKind::Records {
        return Err(Error::invalid(format!("{path}: expected a tape of records, got blobs")));
    }
    let first = reader.first()?;
    reader.seek(if offset < 0 { first } else { offset as u64 })?;
    Ok(kept(reader))
} }

native! { Java_tapeworks_flink_Core_readTape(env, reader: jlong, items_max: jint, wait_ms: jint)
-> jbyteArray {
    let reader = held::<Reader>(reader);
    let mut out = Vec::new();
    if let Some(batch) = reader.read(items_max as usize)? {
        out.reserve(9 + batch.bytes.len());
        out.push(TAPE);
        out.extend_from_slice(&batch.first_offset.to_le_bytes());
        out.extend_from_slice(batch.bytes);
        reader.check_intact()?;
    } else if wait_ms > 0 {
        reader.wait(Duration::from_millis(wait_ms as u64));
    }
    array(env, &out)
} }

native! { Java_tapeworks_flink_Core_tapeOffset(env, reader: jlong) -> jlong {
    let _ = env;
    Ok(held::<Reader>(reader).position() as jlong)
} }

native! { Java_tapeworks_flink_Core_closeTape(env, reader: jlong) -> () {
    let _ = env;
    freed::<Reader>(reader);
    Ok(())
} }

/// Deals one batch of either kind.
fn deal(router: &mut Router, batch: &[u8]) -> Result<(), Error> {
    let cut = || Error::invalid("the batch is not whole");
    match batch.split_first() {
        Some((&TAPE, rest)) => {
            let (offset, records) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
            router.deal_batch(records, u64::from_le_bytes(*offset))
        }
        Some((&MESSAGES, mut rest)) => {
            while let Some((head, more)) = rest.split_first_chunk::<8>() {
                let word = |at: usize| {
                    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
                };
                let (message, more) = more.split_at_checked(word(4) as usize).ok_or_else(cut)?;
                router.deal_message(word(0), message)?;
                rest = more;
            }
            if rest.is_empty() {
                Ok(())
            } else {
                Err(cut())
            }
        }
        _ => Err(cut()),
    }
}

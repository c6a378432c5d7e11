//! The Arrow C data interface: how columns are handed to another library without a copy.
//!
//! The structs and their ownership rules are those of
//! <https://arrow.apache.org/docs/format/CDataInterface.html>. What is exported owns its memory
//! until the receiver calls `release`.

use std::ffi::{c_char, c_void, CString};
use std::ptr::null_mut;

use super::Column;

/// Flag of a field: it may hold nulls.
const NULLABLE: i64 = 2;

/// Describes the type of an array.
#[derive(Debug)]
#[repr(C)]
pub struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    children_count: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private: *mut c_void,
}

/// Holds the values of an array.
#[derive(Debug)]
#[repr(C)]
pub struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    buffers_count: i64,
    children_count: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private: *mut c_void,
}

// SAFETY: both own what they point to, and nothing else points there.
unsafe impl Send for ArrowSchema {}
// SAFETY: as above.
unsafe impl Send for ArrowArray {}

struct SchemaOwner {
    _format: CString,
    _name: CString,
    children: Vec<*mut ArrowSchema>,
}

struct ArrayOwner {
    column: Column,
    buffers: Vec<*const c_void>,
    children: Vec<*mut ArrowArray>,
}

impl Drop for ArrayOwner {
    fn drop(&mut self) {
        if let Some(memory) = &self.column.memory {
            memory.give(&mut self.column.buffers);
        }
    }
}

/// The type and the values of a struct array whose fields are `columns`.
pub fn export(columns: Vec<Column>, length: usize) -> (ArrowSchema, ArrowArray) {
    let batch = Column::structure(columns, length);
    let schema = schema_of(&batch);
    (schema, array_of(batch))
}

fn text(text: &str) -> CString {
    // Names and formats are our own constants; a zero byte cannot be in them.
    CString::new(text).unwrap_or_default()
}

fn schema_of(column: &Column) -> ArrowSchema {
    let (format, name) = (text(&column.format), text(&column.name));
    let child = |column| Box::into_raw(Box::new(schema_of(column)));
    let dictionary = column.dictionary.as_deref().map_or(null_mut(), child);
    let (format_pointer, name_pointer) = (format.as_ptr(), name.as_ptr());
    let mut owner = Box::new(SchemaOwner {
        _format: format,
        _name: name,
        children: column.children.iter().map(child).collect(),
    });
    ArrowSchema {
        format: format_pointer,
        name: name_pointer,
        metadata: std::ptr::null(),
        flags: if column.name.is_empty() { 0 } else { NULLABLE },
        children_count: owner.children.len() as i64,
        children: owner.children.as_mut_ptr(),
        dictionary,
        release: Some(release_schema),
        private: Box::into_raw(owner).cast(),
    }
}

fn array_of(mut column: Column) -> ArrowArray {
    let child = |column| Box::into_raw(Box::new(array_of(column)));
    let dictionary = column.dictionary.take().map_or(null_mut(), |column| child(*column));
    let children = std::mem::take(&mut column.children).into_iter().map(child).collect();
    let (length, null_count) = (column.length as i64, column.nulls as i64);
    let mut owner = Box::new(ArrayOwner { column, buffers: Vec::new(), children });
    owner.buffers = owner.column.buffers.iter().map(super::Buffer::pointer).collect();
    ArrowArray {
        length,
        null_count,
        offset: 0,
        buffers_count: owner.buffers.len() as i64,
        children_count: owner.children.len() as i64,
        buffers: owner.buffers.as_mut_ptr(),
        children: owner.children.as_mut_ptr(),
        dictionary,
        release: Some(release_array),
        private: Box::into_raw(owner).cast(),
    }
}

/// Frees a schema and what it still owns.
///
/// # Safety
/// `schema` was made by [`export`] and not yet released.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: the caller promises that everything is as `schema_of` made it, except that children
    // may have been moved out, which sets their `release` to none.
    unsafe {
        let owner = Box::from_raw((*schema).private.cast::<SchemaOwner>());
        for child in owner.children.iter().copied().chain(some((*schema).dictionary)) {
            drop(Box::from_raw(child));
        }
        (*schema).release = None;
    }
}

/// Frees an array and what it still owns.
///
/// # Safety
/// `array` was made by [`export`] and not yet released.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: as in `release_schema`.
    unsafe {
        let owner = Box::from_raw((*array).private.cast::<ArrayOwner>());
        for child in owner.children.iter().copied().chain(some((*array).dictionary)) {
            drop(Box::from_raw(child));
        }
        (*array).release = None;
    }
}

fn some<T>(pointer: *mut T) -> Option<*mut T> {
    (!pointer.is_null()).then_some(pointer)
}

impl Drop for ArrowSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: not yet released, and dropped once.
            unsafe { release(self) }
        }
    }
}

impl Drop for ArrowArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: not yet released, and dropped once.
            unsafe { release(self) }
        }
    }
}

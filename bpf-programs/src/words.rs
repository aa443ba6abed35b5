// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory, word by word. What the compiler would call for instead goes byte by byte: to clear a slot took a third of a
//! connection's end.
const WORD: usize = size_of::<u64>();

#[inline(always)]
pub unsafe fn clear<T>(at: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(WORD)) };
    for i in 0..size_of::<T>() / WORD {
        unsafe { at.cast::<u64>().add(i).write_volatile(0) };
    }
}

#[inline(always)]
pub unsafe fn copy<T>(from: *const T, to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(WORD)) };
    for i in 0..size_of::<T>() / WORD {
        unsafe {
            to.cast::<u64>()
                .add(i)
                .write_volatile(from.cast::<u64>().add(i).read_volatile())
        };
    }
}

//! The strings of a file in RDB form.

use super::{BULK_LEN_MAX, Failed, Import, shown};
use crate::clock::UnixMillis;
use crate::rdb::file::{File, Item};
use crate::store::effect::Effect;
use std::io::Read;

/// The progress is updated after each so many items.
const ITEMS_PER_UPDATE: u64 = 1 << 12;

impl Import {
    /// Takes all strings. Returns the offset of what comes after the file in RDB form.
    pub(super) fn read_values(
        &mut self,
        source: &mut impl Read,
        progress: &mut impl FnMut(u64),
    ) -> Result<u64, Failed> {
        let mut file = File::begin(source, BULK_LEN_MAX).map_err(|error| (0, error.to_string()))?;
        // The value that comes next is skipped with the item after it.
        let mut skipped = String::new();
        for number in 0u64.. {
            if number % ITEMS_PER_UPDATE == 0 {
                progress(file.offset());
            }
            let offset = file.offset();
            let item = file.next_item().map_err(|error| (offset, format!("{error}{skipped}")))?;
            let Some(item) = item else { break };
            skipped = match &item {
                Item::Other { key, .. } => format!(", at the key {}", shown(key)),
                _ => String::new(),
            };
            self.take(item).map_err(|text| (offset, text))?;
        }
        Ok(file.offset())
    }

    fn take(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Database(number) => self.enter(number)?,
            Item::Library => self.left_out.libraries += 1,
            _ if self.is_elsewhere() => self.left_out.elsewhere += 1,
            Item::Other { key, of_type } => self.leave_out(of_type.name(), &key)?,
            Item::Value { key, value, deadline } => {
                self.values_read += 1;
                let (key, deadline) = (&key[..], deadline.map(UnixMillis));
                let keys = [key].into_iter();
                let mut tx = self.store.begin_several(keys, true, || UnixMillis(0));
                tx.apply(Effect::Set { key, value: &value, deadline });
            }
        }
        Ok(())
    }
}

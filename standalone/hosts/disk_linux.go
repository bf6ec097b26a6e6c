package hosts

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SetDisk gives the host a disk of so many bytes, in memory, on a folder that is there, or makes the one it has there as large. Only
// the host's processes see it.
func (h *Host) SetDisk(folder string, bytes int64) error {
	return h.Thread.Do(func() error {
		var flags uintptr
		if h.disks[folder] {
			flags = unix.MS_REMOUNT
		}
		if err := unix.Mount("tmpfs", folder, "tmpfs", flags, fmt.Sprintf("size=%d", bytes)); err != nil {
			return fmt.Errorf("%s: a disk on %s: %w", h.Name, folder, err)
		}
		if h.disks == nil {
			h.disks = map[string]bool{}
		}
		h.disks[folder] = true
		return nil
	})
}

//go:build !linux

package hosts

import "errors"

var errLinux = errors.New("hosts are network namespaces, which only Linux has")

// Possible says why this user cannot make hosts on this system.
func Possible() error                    { return errLinux }
func (h *Host) enterNamespace(int) error { return errLinux }
func (h *Host) enter() error             { return errLinux }

// SetDisk is only for Linux.
func (h *Host) SetDisk(string, int64) error { return errLinux }

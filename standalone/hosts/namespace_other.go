//go:build !linux

package hosts

import "errors"

var errLinux = errors.New("hosts are network namespaces, which only Linux has")

func possible() error                    { return errLinux }
func (h *Host) enterNamespace(int) error { return errLinux }
func (h *Host) enter() error             { return errLinux }

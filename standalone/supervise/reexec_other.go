//go:build !linux

package supervise

import "os"

func self() (string, error) { return os.Executable() }

package hosts

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mathub/webhooks/standalone/supervise"
)

// Possible says why this user cannot make hosts on this system.
func Possible() error {
	if os.Geteuid() != 0 {
		return errors.New("hosts are network namespaces, which only root can make: run this as root")
	}
	return nil
}

// enterNamespace makes the host's namespace, thread and interface.
func (h *Host) enterNamespace(bits int) (err error) {
	h.Thread, err = supervise.NewThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("namespaces, which need the capability CAP_SYS_ADMIN: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("mounts of the host's own: %w", err)
		}
		if err := unix.Sethostname([]byte(h.Name)); err != nil {
			return fmt.Errorf("the host's name: %w", err)
		}
		var err error
		if h.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if h.tun, err = openTun("eth0"); err != nil {
			return fmt.Errorf("a TUN interface, which needs /dev/net/tun and the capability CAP_NET_ADMIN: %w", err)
		}
		if err := configure("lo", nil, 0); err != nil {
			return fmt.Errorf("the interface lo: %w", err)
		}
		if err := configure("eth0", h.Address.AsSlice(), bits); err != nil {
			return fmt.Errorf("the interface eth0: %w", err)
		}
		return nil
	})
	return err
}

// enter puts the calling thread into the host's namespace.
func (h *Host) enter() error { return unix.Setns(int(h.namespace.Fd()), unix.CLONE_NEWNET) }

// openTun makes an interface of the calling thread's namespace whose packets are read from and written to the file.
func openTun(name string) (*os.File, error) {
	path, remove, err := tunDevice()
	if err != nil {
		return nil, err
	}
	defer remove()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "tun "+name), nil
}

// tunDevice is the kernel's device for TUN interfaces. Where /dev has none, as in a minimal container, it makes one; remove
// removes that.
func tunDevice() (path string, remove func(), err error) {
	const usual = "/dev/net/tun"
	if _, err := os.Stat(usual); err == nil {
		return usual, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "tun-*")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path = filepath.Join(dir, "tun")
	// The number is Linux's for good: Documentation/admin-guide/devices.txt.
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil {
		remove()
		return "", nil, err
	}
	return path, remove, nil
}

// configure gives an interface an address, if any, and turns it on.
func configure(name string, address net.IP, bits int) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket) //nolint:errcheck // it holds nothing
	set := func(what uint, fill func(*unix.Ifreq) error) error {
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := fill(request); err != nil {
			return err
		}
		return unix.IoctlIfreq(socket, what, request)
	}
	up := set(unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
	if up != nil || address == nil {
		return up
	}
	return errors.Join(
		set(unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }),
		set(unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address.To4()) }),
		set(unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.CIDRMask(bits, 32)) }),
	)
}

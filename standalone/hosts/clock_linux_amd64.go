package hosts

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Programs ask the kernel's vDSO for the time: the C library's and Go's do so alike. The kernel gives each process pages of its own
// as soon as they are written to, as a debugger does, and a process hands them on to those it forks.

// The code that takes the functions' place. Each ends in the distance of the clock, which setClock writes behind it.
var (
	// fakeGettime is clock_gettime(edi, rsi): the system call, and for CLOCK_REALTIME and CLOCK_REALTIME_COARSE the distance on top.
	fakeGettime = []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x75, 19, // jne ret
		0x85, 0xff, // test edi, edi
		0x74, 5, // je add
		0x83, 0xff, 5, // cmp edi, CLOCK_REALTIME_COARSE
		0x75, 10, // jne ret
		0x48, 0x8b, 0x0d, 5, 0, 0, 0, // add: mov rcx, [distance]
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, 0, // ret
	}
	// fakeTimeOfDay is gettimeofday(rdi, rsi).
	fakeTimeOfDay = []byte{
		0xb8, 96, 0, 0, 0, // mov eax, SYS_gettimeofday
		0x0f, 0x05, // syscall
		0x48, 0x85, 0xff, // test rdi, rdi
		0x74, 10, // je ret
		0x48, 0x8b, 0x0d, 5, 0, 0, 0, // mov rcx, [distance]
		0x48, 0x01, 0x0f, // add [rdi], rcx
		0xc3, 0, // ret
	}
	// fakeTime is time(rdi).
	fakeTime = []byte{
		0xb8, 201, 0, 0, 0, // mov eax, SYS_time
		0x0f, 0x05, // syscall
		0x48, 0x03, 0x05, 10, 0, 0, 0, // add rax, [distance]
		0x48, 0x85, 0xff, // test rdi, rdi
		0x74, 3, // je ret
		0x48, 0x89, 0x07, // mov [rdi], rax
		0xc3, 0, // ret
	}
)

const jump = 0xe9 // jmp rel32

// SetClock puts the clock of the host apart from the machine's by so many whole seconds, for the processes that run there and those that they
// fork. What is started later has the machine's clock.
func (h *Host) SetClock(apart time.Duration) error {
	// On the thread that starts the processes, none of them is a copy of this one that has yet to become another.
	return h.Thread.Do(func() error { return h.setClocks(apart) })
}

func (h *Host) setClocks(apart time.Duration) error {
	for set := map[int]bool{}; ; {
		processes, err := h.processes()
		if err != nil {
			return err
		}
		more := false
		for _, pid := range processes {
			if set[pid] {
				continue
			}
			// One that has ended meanwhile needs no clock.
			if err := setClock(pid, apart); err != nil && syscall.Kill(pid, 0) == nil {
				return fmt.Errorf("%s: the clock of process %d: %w", h.Name, pid, err)
			}
			set[pid], more = true, true
		}
		if !more {
			return nil
		}
	}
}

// processes are those on the host, the oldest first where numbers do not wrap around.
func (h *Host) processes() (pids []int, err error) {
	var own unix.Stat_t
	if err := unix.Fstat(int(h.namespace.Fd()), &own); err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		var its unix.Stat_t
		if err := unix.Stat(link, &its); err != nil || its.Ino != own.Ino || its.Dev != own.Dev {
			continue
		}
		// The first thread of this process may be one that is on a host.
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// setClock stops a process, changes its clock and lets it go on.
func setClock(pid int, apart time.Duration) (err error) {
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close() //nolint:errcheck // written without a buffer
	start, image, err := readVDSO(pid, memory)
	if err != nil {
		return err
	}
	patches, err := clockPatches(image, apart)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Kill(pid, syscall.SIGCONT)) }()
	if err := stopOutside(pid, start, len(image)); err != nil {
		return err
	}
	for _, p := range patches {
		if _, err := memory.WriteAt(p.code, int64(start)+int64(p.at)); err != nil {
			return err
		}
	}
	return nil
}

// patch is code for a place in the vDSO.
type patch struct {
	at   int
	code []byte
}

// clockPatches are those that put a process's clock apart. The new code stands at the end of the last page, which is empty.
func clockPatches(image []byte, apart time.Duration) (patches []patch, err error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, fmt.Errorf("the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("the vDSO: %w", err)
	}
	at := map[string]int{}
	for _, s := range symbols {
		at[s.Name] = int(s.Value)
	}
	end := len(image)
	for _, fake := range []struct {
		name string
		code []byte
	}{{"__vdso_clock_gettime", fakeGettime}, {"__vdso_gettimeofday", fakeTimeOfDay}, {"__vdso_time", fakeTime}} {
		entry := at[fake.name]
		if entry == 0 {
			return nil, fmt.Errorf("the vDSO has no %s", fake.name)
		}
		code := binary.LittleEndian.AppendUint64(bytes.Clone(fake.code), uint64(apart/time.Second))
		end -= len(code)
		isFree := len(bytes.Trim(image[end:end+len(code)], "\x00")) == 0
		if !isFree && !bytes.Equal(image[end:end+len(fake.code)], fake.code) {
			return nil, errors.New("the vDSO leaves no room")
		}
		leap := binary.LittleEndian.AppendUint32([]byte{jump}, uint32(end-entry-5))
		patches = append(patches, patch{end, code}, patch{entry, leap})
	}
	return patches, nil
}

// readVDSO finds the vDSO in a process's memory.
func readVDSO(pid int, memory *os.File) (start uint64, image []byte, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, nil, err
	}
	defer maps.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if !strings.HasSuffix(lines.Text(), "[vdso]") {
			continue
		}
		var end uint64
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &start, &end); err != nil {
			return 0, nil, err
		}
		image = make([]byte, end-start)
		_, err := memory.ReadAt(image, int64(start))
		return start, image, err
	}
	return 0, nil, errors.New("it has no vDSO")
}

// stopOutside stops a process at a moment when none of its threads runs in the vDSO.
func stopOutside(pid int, start uint64, size int) error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		stopped, inside, err := threadsAt(pid, start, size)
		if err != nil {
			return err
		}
		if stopped && !inside {
			return nil
		}
		if stopped {
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				return err
			}
		}
		time.Sleep(100 * time.Microsecond) // before it looks again
	}
	return errors.New("it does not stop")
}

// threadsAt says whether all threads of a process are stopped, and whether one of them is within a span of addresses.
func threadsAt(pid int, start uint64, size int) (stopped, inside bool, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	if err != nil {
		return false, false, err
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(filepath.Join(thread, "stat")) //nolint:gosec // the kernel's
		if err != nil {
			continue // it has ended
		}
		// The state stands behind the program's name, which is in brackets: proc_pid_stat(5).
		if _, state, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " "); !strings.HasPrefix(state, "T") {
			return false, false, nil
		}
		call, err := os.ReadFile(filepath.Join(thread, "syscall")) //nolint:gosec // the kernel's
		if err != nil {
			return false, false, err
		}
		fields := strings.Fields(string(call))
		at, err := strconv.ParseUint(fields[len(fields)-1], 0, 64) // "running" where it is not stopped after all
		if err != nil {
			return false, false, nil //nolint:nilerr // it is looked at again
		}
		inside = inside || at >= start && at < start+uint64(size)
	}
	return len(threads) > 0, inside, nil
}

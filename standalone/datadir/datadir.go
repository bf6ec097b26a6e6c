// Package datadir is the folder in which the standalone program keeps everything: one program at a time uses it.
package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Dir is an open, locked data folder.
type Dir struct {
	Path string // absolute
	// Fresh says that the folder has not been through a whole first start yet.
	Fresh bool
	// Credentials and State are kept by Save.
	Credentials Credentials
	State       State

	lock *os.File
}

// Credentials are what the first start makes, kept in credentials.json, which only its owner can read.
type Credentials struct {
	PostgresPassword string `json:"postgresPassword"`
	Keyset           string `json:"keyset,omitempty"`
	ServiceToken     string `json:"serviceToken,omitempty"`
	BotID            string `json:"botId,omitempty"`
	BotKey           string `json:"botKey,omitempty"`
}

// State is what has to be the same at the next start.
type State struct {
	Addr         string `json:"addr,omitempty"`      // of the API
	AdminAddr    string `json:"adminAddr,omitempty"` // of operators' pages
	TemporalPort int    `json:"temporalPort,omitempty"`
	UIPort       int    `json:"uiPort,omitempty"`
	PostgresPort int    `json:"postgresPort,omitempty"`
}

// EnvFile is the name of the file that a shell sources.
const EnvFile = "env"

const (
	credentialsFile = "credentials.json"
	stateFile       = "state.json"
	lockFile        = "lock"
	logsFolder      = "logs"
	postgresFolder  = "postgres"
)

// Open makes the folder if it is missing, locks it and reads what is kept in it. Its errors say what to do.
func Open(path string) (_ *Dir, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkPath(path); err != nil {
		return nil, unsafe(path, err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, unusable(path, err)
	}
	if err := checkFolder(path); err != nil {
		return nil, unsafe(path, err)
	}
	d := &Dir{Path: path}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := os.MkdirAll(d.Logs(), 0o700); err != nil {
		return nil, unusable(path, err)
	}
	if err := d.load(credentialsFile, &d.Credentials); err != nil {
		return nil, err
	}
	if err := d.load(stateFile, &d.State); err != nil {
		return nil, err
	}
	d.Fresh = d.Credentials.BotKey == ""
	if d.Credentials.PostgresPassword == "" {
		d.Credentials.PostgresPassword = Token()
	}
	if d.Credentials.ServiceToken == "" {
		d.Credentials.ServiceToken = Token()
	}
	// Also finds out whether the folder can be written to.
	if err := d.Save(); err != nil {
		return nil, unusable(path, err)
	}
	return d, nil
}

// Close unlocks the folder.
func (d *Dir) Close() error { return d.lock.Close() }

// Logs is the folder of the children's logs.
func (d *Dir) Logs() string { return filepath.Join(d.Path, logsFolder) }

// Postgres is the folder of the Postgres cluster.
func (d *Dir) Postgres() string { return filepath.Join(d.Path, postgresFolder) }

// Log opens a log, to be added to.
func (d *Dir) Log(name string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(d.Logs(), name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // in the user's folder
	if err != nil {
		return nil, unusable(d.Path, err)
	}
	return file, nil
}

// Save writes credentials and state; a crash leaves the former or the new ones.
func (d *Dir) Save() error {
	return errors.Join(d.store(credentialsFile, d.Credentials), d.store(stateFile, d.State))
}

// Token returns 32 random bytes in hex.
func Token() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails, as documented
	return hex.EncodeToString(b[:])
}

func unusable(path string, err error) error {
	return fmt.Errorf("the data folder %s cannot be used: %w: make it writable, or choose another with MATHUB_DATA_DIR", path, err)
}

func unsafe(path string, err error) error {
	return fmt.Errorf("the data folder %s cannot be used: %w: choose one that is yours alone, with MATHUB_DATA_DIR", path, err)
}

// acquire locks the folder until this process ends, in whatever way.
func (d *Dir) acquire() error {
	path := filepath.Join(d.Path, lockFile)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // in the user's folder
	if err != nil {
		return unusable(d.Path, err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		d.lock = file
		if err := file.Truncate(0); err != nil {
			return errors.Join(unusable(d.Path, err), file.Close())
		}
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
		if err != nil {
			return errors.Join(unusable(d.Path, err), file.Close())
		}
		return nil
	}
	defer file.Close() //nolint:errcheck // nothing was written
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return unusable(d.Path, err)
	}
	holder := "another process"
	if raw, err := os.ReadFile(path); err == nil && len(raw) > 0 { //nolint:gosec // in the user's folder
		holder = "process " + strings.TrimSpace(string(raw))
	}
	return fmt.Errorf("the data folder %s is in use by %s: stop that one, or choose another folder with MATHUB_DATA_DIR", d.Path, holder)
}

func (d *Dir) load(name string, into any) error {
	path := filepath.Join(d.Path, name)
	raw, err := os.ReadFile(path) //nolint:gosec // in the user's folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unusable(d.Path, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return nil
}

func (d *Dir) store(name string, v any) error {
	encoded, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return d.Write(name, append(encoded, '\n'))
}

// Write replaces a file of the folder, which only its owner can read; a crash leaves the former or the new one.
func (d *Dir) Write(name string, content []byte) error {
	file, err := os.CreateTemp(d.Path, name+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // gone already when all went well
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(d.Path, name))
}

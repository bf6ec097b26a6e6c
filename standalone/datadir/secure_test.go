package datadir

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const stranger = 65534

// planted is a data folder, below a folder of its own, and a file elsewhere that is not to be touched.
type planted struct {
	t                    *testing.T
	parent, path, victim string
}

func plant(t *testing.T) planted {
	p := planted{t: t, parent: filepath.Join(t.TempDir(), "parent"), victim: filepath.Join(t.TempDir(), "victim")}
	p.path = filepath.Join(p.parent, "data")
	require.NoError(t, os.MkdirAll(filepath.Join(p.path, "logs"), 0o700))
	require.NoError(t, os.WriteFile(p.victim, []byte("{}"), 0o600))
	return p
}

func (p planted) link(name string) {
	path := filepath.Join(p.path, name)
	require.NoError(p.t, os.RemoveAll(path))
	require.NoError(p.t, os.Symlink(p.victim, path))
}

func (p planted) chmod(path string, mode os.FileMode) { require.NoError(p.t, os.Chmod(path, mode)) }

// listed is what is in the folder, and how.
func (p planted) listed(path string) (all []string) {
	require.NoError(p.t, filepath.WalkDir(path, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		all = append(all, path+" "+info.Mode().String())
		return err
	}))
	return all
}

// TestOpen_RefusesWhatAnotherUserMayHavePlanted, follows no link and leaves everything as it is.
func TestOpen_RefusesWhatAnotherUserMayHavePlanted(t *testing.T) {
	cases := map[string]struct {
		plant func(p planted)
		error string
	}{
		"link for the credentials": {func(p planted) { p.link(credentialsFile) }, "credentials.json is a symbolic link"},
		"link for the state":       {func(p planted) { p.link(stateFile) }, "state.json is a symbolic link"},
		"link for the lock":        {func(p planted) { p.link(lockFile) }, "lock is a symbolic link"},
		"link for a log":           {func(p planted) { p.link("logs/app.log") }, "app.log is a symbolic link"},
		"link for the logs":        {func(p planted) { p.link("logs") }, "logs is a symbolic link"},
		"link for the cluster":     {func(p planted) { p.link("postgres") }, "postgres is a symbolic link"},
		"link to nowhere": {func(p planted) {
			require.NoError(p.t, os.Symlink(p.victim+"-new", filepath.Join(p.path, lockFile)))
		}, "lock is a symbolic link"},
		"hard link": {func(p planted) {
			if err := os.Link(p.victim, filepath.Join(p.path, lockFile)); err != nil {
				require.NoError(p.t, os.WriteFile(filepath.Join(p.path, "a"), nil, 0o600))
				require.NoError(p.t, os.Link(filepath.Join(p.path, "a"), filepath.Join(p.path, lockFile)))
			}
		}, "hard links"},
		"pipe": {func(p planted) {
			require.NoError(p.t, syscall.Mkfifo(filepath.Join(p.path, lockFile), 0o600))
		}, "neither a file nor a folder"},
		"a file that others may write to": {func(p planted) {
			require.NoError(p.t, os.WriteFile(filepath.Join(p.path, credentialsFile), []byte("{}"), 0o600))
			p.chmod(filepath.Join(p.path, credentialsFile), 0o666)
		}, "other users may write to"},
		"others may write to it":        {func(p planted) { p.chmod(p.path, 0o777) }, "other users may write to it"},
		"others may add to it":          {func(p planted) { p.chmod(p.path, 0o777|os.ModeSticky) }, "other users may write to it"},
		"others may exchange it":        {func(p planted) { p.chmod(p.parent, 0o777) }, "parent, which other users may write to"},
		"others may exchange its place": {func(p planted) { p.chmod(filepath.Dir(p.parent), 0o777) }, "which other users may write to"},
	}
	if os.Geteuid() == 0 {
		give := func(p planted, path string) { require.NoError(p.t, os.Lchown(path, stranger, stranger)) }
		for name, c := range map[string]struct {
			plant func(p planted)
			error string
		}{
			"another's folder": {func(p planted) { give(p, p.path) }, "it belongs to user 65534"},
			"another's folder with links": {func(p planted) {
				p.link(lockFile)
				p.link(credentialsFile)
				give(p, p.path)
			}, "it belongs to user 65534"},
			"in another's folder": {func(p planted) { give(p, p.parent) }, "parent, which belongs to user 65534"},
			"below another's":     {func(p planted) { give(p, filepath.Dir(p.parent)) }, "which belongs to user 65534"},
			"another's file": {func(p planted) {
				require.NoError(p.t, os.WriteFile(filepath.Join(p.path, credentialsFile), []byte("{}"), 0o600))
				give(p, filepath.Join(p.path, credentialsFile))
			}, "credentials.json belongs to user 65534"},
			"another's link to it": {func(p planted) {
				moved := filepath.Join(p.t.TempDir(), "moved")
				require.NoError(p.t, os.Rename(p.path, moved))
				require.NoError(p.t, os.Symlink(moved, p.path))
				give(p, p.path)
			}, "data is a symbolic link of user 65534"},
			"a group may write": {func(p planted) {
				require.NoError(p.t, os.Chown(p.path, 0, stranger))
				p.chmod(p.path, 0o770)
			}, "other users may write to it"},
		} {
			cases[name] = c
		}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := plant(t)
			c.plant(p)
			before, victim := p.listed(p.parent), p.listed(p.victim)
			_, err := Open(p.path)
			require.ErrorContains(t, err, c.error)
			require.ErrorContains(t, err, "MATHUB_DATA_DIR")
			require.Equal(t, before, p.listed(p.parent))
			require.Equal(t, victim, p.listed(p.victim))
			content, err := os.ReadFile(p.victim)
			require.NoError(t, err)
			require.Equal(t, "{}", string(content))
			info, err := os.Stat(p.victim)
			require.NoError(t, err)
			require.Equal(t, os.Geteuid(), ownerOf(info))
			require.NoFileExists(t, p.victim+"-new")
		})
	}
}

// TestOpen_RefusesAFolderOfAnotherUser, whoever runs this.
func TestOpen_RefusesAFolderOfAnotherUser(t *testing.T) {
	path := "/usr" // root's
	if os.Geteuid() == 0 {
		path = filepath.Join(t.TempDir(), "theirs")
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.Chown(path, stranger, stranger))
	}
	_, err := Open(path)
	require.ErrorContains(t, err, "it belongs to user")
	require.NoDirExists(t, filepath.Join(path, "logs"))
}

// TestOpen_TakesAFolderThatIsOurs: in a sticky folder such as /tmp, by a link of our own, and again after root's Postgres has
// made its cluster in it as another user.
func TestOpen_TakesAFolderThatIsOurs(t *testing.T) {
	p := plant(t)
	p.chmod(p.parent, 0o777|os.ModeSticky)
	link := filepath.Join(p.parent, "link")
	require.NoError(t, os.Symlink(p.path, link))
	cluster := filepath.Join(p.path, "postgres")
	require.NoError(t, os.Mkdir(cluster, 0o700))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(cluster, stranger, stranger))
	}
	for _, path := range []string{p.path, link, filepath.Join(p.path, "made", "deep")} {
		d, err := Open(path)
		require.NoError(t, err)
		require.NoError(t, d.Close())
	}
}

// TestLog_FollowsNoLink, not even one that came after the folder was opened.
func TestLog_FollowsNoLink(t *testing.T) {
	p := plant(t)
	d, err := Open(p.path)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	p.link("logs/app.log")
	_, err = d.Log("app")
	require.ErrorIs(t, err, syscall.ELOOP)
}

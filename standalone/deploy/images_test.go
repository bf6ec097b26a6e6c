package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const digest = `@sha256:[0-9a-f]{64}`

// byDigest are images that change their content under the same tag, exact those whose tag is a full version.
var (
	byDigest = regexp.MustCompile(`^[a-z][a-z0-9./-]*:[a-z0-9.-]+` + digest + `$`)
	exact    = regexp.MustCompile(`^temporalio/[a-z-]+:v?\d+\.\d+\.\d+(` + digest + `)?$`)
)

// imagesOf are the images that a file names for Docker, without those that are built here.
func imagesOf(t *testing.T, path string) (images []string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && (fields[0] == "image:" || fields[0] == "FROM") && fields[1] != "mathub-webhooks" {
			images = append(images, fields[1])
		}
	}
	return images
}

// TestImagesArePinned: what runs tomorrow is what ran when it was tried. Temporal releases no version twice; a full version
// of its images is enough.
func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	images := append(imagesOf(t, composePath), imagesOf(t, "../../Dockerfile")...)
	require.Len(t, images, 10)
	for _, image := range images {
		require.True(t, byDigest.MatchString(image) || exact.MatchString(image), "%s: run make pin-images", image)
		require.NotContains(t, image, ":latest")
	}
	manifests, err := filepath.Glob(filepath.Join(manifests, "*.yaml"))
	require.NoError(t, err)
	for _, manifest := range manifests {
		require.Empty(t, imagesOf(t, manifest), "%s: the only image is ours, whose version stands in kustomization.yaml", manifest)
	}
}

// TestActionsArePinned: an action runs with the token of a release, and a tag may lead elsewhere tomorrow. The release has the
// GoReleaser that make release-snapshot tries.
func TestActionsArePinned(t *testing.T) {
	t.Parallel()
	workflows, err := filepath.Glob("../../.github/workflows/*.yml")
	require.NoError(t, err)
	used := regexp.MustCompile(`uses: *(\S+.*)`)
	pinned := regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	seen := 0
	var text strings.Builder
	for _, workflow := range workflows {
		raw, err := os.ReadFile(workflow)
		require.NoError(t, err)
		text.Write(raw)
		for _, m := range used.FindAllStringSubmatch(string(raw), -1) {
			seen++
			require.Regexp(t, pinned, m[1], "%s: name the commit, and the version behind it", workflow)
		}
	}
	require.GreaterOrEqual(t, seen, 6)
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	tried := regexp.MustCompile(`goreleaser/v2@(v[0-9.]+)`).FindSubmatch(makefile)
	require.NotNil(t, tried)
	require.Contains(t, text.String(), "version: "+string(tried[1])+",")
}

// dockerThat puts a program of that name on the search path for the script, which it starts then in a copy of the files.
func dockerThat(t *testing.T, folder, script string) (output string, err error) {
	t.Helper()
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "docker"), []byte("#!/bin/sh\n"+script), 0o755))
	command := exec.CommandContext(t.Context(), filepath.Join(folder, "tools", "pin-images.sh"))
	command.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	raw, err := command.CombinedOutput()
	return string(raw), err
}

// TestPinImages writes digests, writes others over them, and changes nothing else, nor anything when one is missing.
func TestPinImages(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "tools"), 0o700))
	original := map[string]string{}
	for name, mode := range map[string]os.FileMode{"docker-compose.yml": 0o600, "Dockerfile": 0o600, "tools/pin-images.sh": 0o700} {
		raw, err := os.ReadFile(filepath.Join("../..", name))
		require.NoError(t, err)
		original[name] = string(raw)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), raw, mode))
	}
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		return string(raw)
	}
	for _, number := range []int{1, 2} {
		// The digest is another for each image: its checksum, 64 digits long.
		output, err := dockerThat(t, folder, fmt.Sprintf(`for image; do :; done; printf 'sha256:%%064d\n' %d$(printf %%s "$image" | cksum | cut -d ' ' -f 1)`, number))
		require.NoError(t, err, output)
		tags := map[string]string{} // by digest
		for _, name := range []string{"docker-compose.yml", "Dockerfile"} {
			for _, image := range imagesOf(t, filepath.Join(folder, name)) {
				require.Regexp(t, fmt.Sprintf("@sha256:0+%d[0-9]+$", number), image)
				tag, sum, _ := strings.Cut(image, "@")
				require.Contains(t, []string{"", tag}, tags[sum])
				tags[sum] = tag
			}
			pins := regexp.MustCompile(digest)
			require.Equal(t, pins.ReplaceAllString(original[name], ""), pins.ReplaceAllString(read(name), ""))
		}
		require.Len(t, tags, 8)
	}
	before := read("docker-compose.yml") + read("Dockerfile")
	for _, docker := range []string{"exit 1", "echo 'no such image'", `case "$*" in *temporalio/ui*) exit 1;; *) printf 'sha256:%064d\n' 3;; esac`} {
		output, err := dockerThat(t, folder, docker)
		require.Error(t, err, output)
		require.Equal(t, before, read("docker-compose.yml")+read("Dockerfile"))
	}
}

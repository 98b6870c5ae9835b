package arena

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// FreeMemory is what trials may take together, in bytes: what Linux says is
// available, or less where a control group bounds the process. 0 where nobody
// says.
func FreeMemory() int64 { return freeMemory("/") }

// freeMemory looks at the files below root.
func freeMemory(root string) int64 {
	free := available(root)
	if left := groupMemory(root); left > 0 && (free == 0 || left < free) {
		free = left
	}
	if free == 0 {
		return 0
	}
	// The program itself, the texts, and the garbage collector's slack.
	return max(free/10*8, 1)
}

func available(root string) int64 {
	f, err := os.Open(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int64
		if rest, ok := strings.CutPrefix(s.Text(), "MemAvailable:"); ok {
			if _, err := fmt.Sscan(rest, &kb); err == nil {
				return kb << 10
			}
		}
	}
	return 0
}

// hierarchy is how one version of control groups bounds memory.
type hierarchy struct {
	mounts       []string // where its groups are; those that are not there count for nothing
	limit, usage string   // files of a group
}

var (
	// The second place is that of systems that have both versions.
	groupsV2 = hierarchy{[]string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}, "memory.max", "memory.current"}
	groupsV1 = hierarchy{[]string{"sys/fs/cgroup/memory"}, "memory.limit_in_bytes", "memory.usage_in_bytes"}
)

// groupMemory is what the process's control groups leave it, in bytes: the least
// of all those that it is in, since a limit binds all groups below. 0 without a
// limit.
func groupMemory(root string) int64 {
	var least int64
	raw, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	// Lines are hierarchy:controllers:path; version 2 is "0::path".
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		var h hierarchy
		switch {
		case f[0] == "0" && f[1] == "":
			h = groupsV2
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			h = groupsV1
		}
		for _, mount := range h.mounts {
			if left := h.left(filepath.Join(root, mount), f[2]); left > 0 && (least == 0 || left < least) {
				least = left
			}
		}
	}
	return least
}

// left walks up from a group. In a container, the path may be the host's: then
// only the mount itself, which is the container's own group, has the files.
func (h hierarchy) left(mount, group string) int64 {
	var least int64
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		limit, ok1 := readCount(filepath.Join(mount, group, h.limit))
		used, ok2 := readCount(filepath.Join(mount, group, h.usage))
		if ok1 && ok2 {
			if left := max(limit-used, 1); least == 0 || left < least {
				least = left
			}
		}
		if group == "/" {
			return least
		}
	}
}

// unlimited is from where on a limit of version 1, which has no word for none, is
// none: it is the largest multiple of the page size.
const unlimited = 1 << 62

// readCount reads a file with a number of bytes; "max" is none.
func readCount(file string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	var n int64
	if _, err := fmt.Sscan(string(raw), &n); err != nil || n < 0 || n >= unlimited {
		return 0, false
	}
	return n, true
}

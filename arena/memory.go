package arena

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// FreeMemory is what trials may take together, in bytes: what Linux says is
// available, or less where a control group bounds the process. 0 where nobody
// says.
func FreeMemory() int64 {
	free := available()
	if limit := groupLimit(); limit > 0 && (free == 0 || limit < free) {
		free = limit
	}
	// The program itself, the texts, and the garbage collector's slack.
	return free / 10 * 8
}

func available() int64 {
	f, err := os.Open("/proc/meminfo")
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

func groupLimit() int64 {
	var limit, used int64
	for path, to := range map[string]*int64{"/sys/fs/cgroup/memory.max": &limit, "/sys/fs/cgroup/memory.current": &used} {
		raw, err := os.ReadFile(path)
		if err != nil {
			return 0
		}
		if _, err := fmt.Sscan(string(raw), to); err != nil {
			return 0 // "max"
		}
	}
	return max(limit-used, 1)
}

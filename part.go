package neuroseal

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Part is one share of a seal that several machines make: number Index, from 1
// on, of Count.
type Part struct{ Index, Count int }

// maxParts bounds a share's numbers: no checkpoint has that many shards.
const maxParts = 1 << 20

// ParsePart reads "i/n".
func ParsePart(s string) (Part, error) {
	a, b, ok := strings.Cut(s, "/")
	i, err1 := strconv.Atoi(a)
	n, err2 := strconv.Atoi(b)
	p := Part{i, n}
	if !ok || err1 != nil || err2 != nil || p.String() != s {
		return Part{}, fault.New(fault.Usage, "part %q is not of the form i/n", s).
			WithHint("with four machines: 1/4 on the first, 4/4 on the last")
	}
	return p, p.check()
}

func (p Part) String() string { return fmt.Sprintf("%d/%d", p.Index, p.Count) }

func (p Part) check() error {
	if p.Count < 1 || p.Count > maxParts || p.Index < 1 || p.Index > p.Count {
		return fault.New(fault.Usage, "part %v: parts are counted from 1 to n, and n is at most %d", p, maxParts).
			WithHint("with four machines: 1/4 on the first, 4/4 on the last")
	}
	return nil
}

// assign deals the shards out to n parts and returns for each shard the number
// of its part, from 1 on. The largest shard comes first, then the next, by path
// where sizes are alike, and each goes to the part that has the fewest bytes so
// far, the lower number where two have as few.
func assign(shards []checkpoint.Shard, n int) []int {
	order := make([]int, len(shards))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(shards[b].Size, shards[a].Size), cmp.Compare(shards[a].Path, shards[b].Path))
	})
	n = min(n, len(shards)) // the parts beyond stay empty
	load := make([]int64, n)
	part := make([]int, len(shards))
	for _, i := range order {
		least := 0
		for k := range load {
			if load[k] < load[least] {
				least = k
			}
		}
		load[least] += max(shards[i].Size, 1)
		part[i] = least + 1
	}
	return part
}

// share lists a part's shards, and all shards in the order in which the part
// does well to measure them: its own first, then the next part's, and so on.
// Another part's shards come from the last to the first, as that part itself
// goes the other way, so that parts that run at the same time meet late.
func (p Part) share(shards []checkpoint.Shard) (own, all []int) {
	of := assign(shards, p.Count)
	for i := range shards {
		all = append(all, i)
		if of[i] == p.Index {
			own = append(own, i)
		}
	}
	turn := func(i int) int { return (of[i] - p.Index + p.Count) % p.Count }
	slices.SortFunc(all, func(a, b int) int {
		if d := cmp.Compare(turn(a), turn(b)); d != 0 {
			return d
		}
		if turn(a) > 0 {
			a, b = b, a
		}
		return cmp.Compare(a, b)
	})
	return own, all
}

// PartsFolder is where the parts of a seal stand until LockFinish: beside the
// output, and on its file system.
func PartsFolder(output string) string { return besideOutput(output, ".parts") }

// besideOutput is a path beside an output.
func besideOutput(output, suffix string) string {
	output = filepath.Clean(output)
	if base := filepath.Base(output); base == "." || base == ".." {
		if abs, err := filepath.Abs(output); err == nil {
			output = abs
		}
	}
	return output + suffix
}

package seal

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/neuroseal/neuroseal/keys"
)

// Redraw sees to it that the key moves something. Where few classes may move,
// and not far, a key may draw the factor 1 for all of them; all groups that may
// move are then drawn once more, from streams of their own, until one class of
// one group has another factor. Each group's Draw counts the draws that were
// thrown away. It does nothing where no group may move.
func (p *Plan) Redraw(key keys.SealKey) error {
	for draw := 0; draw <= maxDraws; draw++ {
		free := false
		for i := range p.Groups {
			if g := &p.Groups[i]; !g.Fixed() {
				free, g.Draw = true, draw
			}
		}
		if !free || slices.ContainsFunc(p.Groups, func(g Group) bool { return g.moves(key) }) {
			return nil
		}
	}
	return fmt.Errorf("%d draws in turn have the factor 1 for every class", maxDraws+1)
}

// moves reports whether some class has another factor than 1 under the key.
func (g Group) moves(key keys.SealKey) bool {
	return !g.Fixed() && (slices.ContainsFunc(g.exponents(key), func(e int16) bool { return e != 0 }) ||
		g.Signs && slices.Contains(g.signs(key), true))
}

// stream is the id of the stream that the group's exponents come from.
func (g Group) stream() string {
	if g.Draw == 0 {
		return g.ID
	}
	return "draw\x00" + strconv.Itoa(g.Draw) + "\x00" + g.ID
}

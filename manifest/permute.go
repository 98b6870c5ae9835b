package manifest

// Permute is what changed places; the orders themselves come from the key. The
// sealed weights are the original's times their factors, moved.
type Permute struct {
	Permutations []Permutation  `json:"permutations"`
	Axes         []PermutedAxis `json:"axes"`
	Exchanges    []Exchange     `json:"exchanges,omitempty"`
}

// Permutation is an order of Count places.
type Permutation struct {
	ID    string `json:"id"`
	Layer int    `json:"layer"`
	Count int    `json:"count"`
}

// PermutedAxis is one axis of a tensor: stretches that follow each other, each a
// product of factors [permutation, count], outermost first. Permutation -1
// stands for places that stay.
type PermutedAxis struct {
	Tensor    string     `json:"tensor"`
	Shape     []int      `json:"shape"`
	Axis      int        `json:"axis"`
	Stretches [][][2]int `json:"stretches"`
}

// Exchange permutes tensors as wholes, in the order of a product of factors.
type Exchange struct {
	Places  [][2]int `json:"places"`
	Tensors []string `json:"tensors"`
}

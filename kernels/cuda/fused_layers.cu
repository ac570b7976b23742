// What follows the products of linear layers and convolutions, one instance for every activation.
#include "finish.cuh"

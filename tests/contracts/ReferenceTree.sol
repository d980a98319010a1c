// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Merkle trees by the recursive definitions of RFC 6962, 2.1
/// @notice It makes roots and proofs. MerkleLog verifies proofs by another algorithm, that of RFC 9162.
library ReferenceTree {
    function leafHash(bytes memory entry) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"00", entry));
    }

    function nodeHash(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"01", left, right));
    }

    /// @dev MTH(D[from:to]) for at least one leaf.
    function root(bytes32[] memory leaves, uint256 from, uint256 to) internal pure returns (bytes32) {
        if (to - from == 1) return leaves[from];
        uint256 middle = from + split(to - from);
        return nodeHash(root(leaves, from, middle), root(leaves, middle, to));
    }

    /// @dev PATH(index, D[from:to]), where `index` counts from the first leaf of all.
    function path(
        bytes32[] memory leaves,
        uint256 index,
        uint256 from,
        uint256 to
    ) internal pure returns (bytes32[] memory) {
        if (to - from == 1) return new bytes32[](0);
        uint256 middle = from + split(to - from);
        return
            index < middle
                ? appended(path(leaves, index, from, middle), root(leaves, middle, to))
                : appended(path(leaves, index, middle, to), root(leaves, from, middle));
    }

    /// @dev PROOF(size, D[0:to]).
    function proof(bytes32[] memory leaves, uint256 size, uint256 to) internal pure returns (bytes32[] memory) {
        return subproof(leaves, size, 0, to, true);
    }

    /// @dev SUBPROOF(size - from, D[from:to], whole), where `size` counts from the first leaf of all.
    function subproof(
        bytes32[] memory leaves,
        uint256 size,
        uint256 from,
        uint256 to,
        bool whole
    ) internal pure returns (bytes32[] memory) {
        if (size == to) return whole ? new bytes32[](0) : appended(new bytes32[](0), root(leaves, from, to));
        uint256 middle = from + split(to - from);
        return
            size <= middle
                ? appended(subproof(leaves, size, from, middle, whole), root(leaves, middle, to))
                : appended(subproof(leaves, size, middle, to, false), root(leaves, from, middle));
    }

    /// @dev The greatest power of two that is less than `length`.
    function split(uint256 length) internal pure returns (uint256 power) {
        for (power = 1; power * 2 < length; ) power *= 2;
    }

    function appended(bytes32[] memory list, bytes32 last) internal pure returns (bytes32[] memory longer) {
        longer = new bytes32[](list.length + 1);
        for (uint256 i = 0; i < list.length; ++i) longer[i] = list[i];
        longer[list.length] = last;
    }

    function shortened(bytes32[] memory list) internal pure returns (bytes32[] memory shorter) {
        shorter = new bytes32[](list.length - 1);
        for (uint256 i = 0; i < shorter.length; ++i) shorter[i] = list[i];
    }
}

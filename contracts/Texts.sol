// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Names and texts of visible ASCII characters, from "!" to "~"
library Texts {
    /// @notice Whether a word is a name: 1 to 31 visible characters, followed by zero bytes only.
    /// @param name The word.
    /// @return answer True if it is a name.
    function isName(bytes32 name) internal pure returns (bool answer) {
        bytes memory text = textOf(name);
        uint256 length = text.length;
        return length != 0 && length != 32 && name << (8 * length) == 0 && isVisible(text, 0);
    }

    /// @notice Returns the characters of a name, which end before the first zero byte.
    /// @param name The name.
    /// @return text The characters.
    function textOf(bytes32 name) internal pure returns (bytes memory text) {
        uint256 length = 0;
        while (length < 32 && name[length] != 0) ++length;
        text = abi.encodePacked(name);
        assembly ("memory-safe") {
            mstore(text, length)
        }
    }

    /// @notice Whether a text consists of visible characters from an offset on.
    /// @param text The text.
    /// @param offset Number of bytes to skip.
    /// @return answer True if it does, or if nothing follows the offset.
    function isVisible(bytes memory text, uint256 offset) internal pure returns (bool answer) {
        for (uint256 i = offset; i < text.length; ++i) {
            if (text[i] < "!" || text[i] > "~") return false;
        }
        return true;
    }

    /// @notice Whether a text contains "/" from an offset on.
    /// @param text The text.
    /// @param offset Number of bytes to skip.
    /// @return answer True if it does.
    function hasSlash(bytes memory text, uint256 offset) internal pure returns (bool answer) {
        for (uint256 i = offset; i < text.length; ++i) {
            if (text[i] == "/") return true;
        }
        return false;
    }

    /// @notice Whether a text begins with another.
    /// @param text The text.
    /// @param prefix The beginning.
    /// @return answer True if it does.
    function startsWith(bytes memory text, bytes memory prefix) internal pure returns (bool answer) {
        uint256 length = prefix.length;
        if (text.length < length) return false;
        bytes32 beginning;
        assembly ("memory-safe") {
            beginning := keccak256(add(text, 32), length)
        }
        return beginning == keccak256(prefix);
    }
}
